"""The console's files and its settings. tests/e2e/test_console.py uses the pages in a browser."""

import re

import pytest
from fastapi.testclient import TestClient

from functions.api import build_api
from shared.resources import Resources
from shared.settings import Settings

POOL = {"console_client_id": "client", "console_sign_in_url": "https://inference.auth.eu-west-1.amazoncognito.com"}


def page_of(settings: Settings, **changes: str) -> TestClient:
    return TestClient(build_api(Resources(settings.model_copy(update=changes))))


def test_every_file_that_the_pages_name_is_served(anonymous: TestClient) -> None:
    page = anonymous.get("/console").text
    waiting = {f"/{name.removeprefix('./')}" for name in re.findall(r'"((?:\./)?console/[^"]+)"', page)}
    waiting |= {
        f"/console/pages/{name}.js" for name in ("home", "data", "models", "decisions", "review", "chats", "operations")
    }
    served: set[str] = set()
    while waiting:
        path = waiting.pop()
        served.add(path)
        response = anonymous.get(path)
        assert response.status_code == 200, path
        folder = path.rpartition("/")[0]
        names = re.findall(r'(?:from|import\() ?"(\.[^"]+\.js)"', response.text)
        found = {re.sub(r"/[^/]+/\.\./", "/", f"{folder}/{name.removeprefix('./')}") for name in names}
        waiting |= found - served
    assert {"/console/preact.mjs", "/console/uPlot.esm.js", "/console/pages/guide.js", "/console/charts.js"} <= served


@pytest.mark.parametrize(
    "file", ["../routes.py", "%2e%2e/routes.py", "routes.py", "pages", "index.html", "", "/etc/passwd"]
)
def test_no_other_file_is_served(anonymous: TestClient, file: str) -> None:
    response = anonymous.get(f"/console/{file}")
    assert response.status_code == 404
    assert "import" not in response.text


@pytest.mark.row("UI-6")
def test_the_page_runs_only_its_own_scripts_and_calls_only_the_sign_in_and_the_bucket(settings: Settings) -> None:
    response = page_of(settings, **POOL, aws_region="eu-west-1").get("/console")
    policy = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert re.fullmatch(r"'self' 'sha256-[\w+/]{43}='", policy["script-src"])
    assert policy["style-src"] == "'self'"
    assert policy["connect-src"].split() == [
        "'self'",
        POOL["console_sign_in_url"],
        f"https://{settings.bucket_name}.s3.eu-west-1.amazonaws.com",
    ]


def test_the_console_signs_in_where_the_deployment_says(settings: Settings) -> None:
    config = page_of(settings, **POOL).get("/console/config.json").json()
    assert config["client_id"] == "client"
    assert config["authorization_endpoint"] == f"{POOL['console_sign_in_url']}/oauth2/authorize"
    assert config["token_endpoint"] == f"{POOL['console_sign_in_url']}/oauth2/token"
    assert set(page_of(settings).get("/console/config.json").json().values()) == {None}
