"""The console's files and its settings. tests/e2e/test_console.py uses the pages in a browser."""

import gzip
import re

import pytest
from fastapi.testclient import TestClient

from functions.api import build_api
from shared.models.space import Privilege, UserPermission
from shared.models.webhook_endpoint import WebhookEventType
from shared.resources import Resources
from shared.settings import Settings

POOL = {"console_client_id": "client", "console_sign_in_url": "https://inference.auth.eu-west-1.amazoncognito.com"}


def page_of(settings: Settings, **changes: str) -> TestClient:
    return TestClient(build_api(Resources(settings.model_copy(update=changes))))


PAGES = ("home", "data", "models", "decisions", "review", "chats", "operations")
# Loaded with the first chart.
CHARTS = "/console/uPlot.esm.js"


def loaded(client: TestClient, *begin: str) -> dict[str, bytes]:
    """Returns the files that a browser loads for these and for all that they import."""
    waiting, found = set(begin), dict[str, bytes]()
    while waiting:
        path = waiting.pop()
        response = client.get(path)
        assert response.status_code == 200, path
        found[path] = response.content
        folder = path.rpartition("/")[0]
        names = re.findall(r'(?:from|import\() ?"(\.[^"]+\.js)"', response.text)
        waiting |= {
            re.sub(r"/[^/]+/\.\./", "/", f"{folder}/{name.removeprefix('./')}") for name in names
        } - found.keys()
    return found


def named_by_the_page(client: TestClient) -> set[str]:
    """Returns the addresses in the page: its style, its first script, and the libraries."""
    names = re.findall(r'"((?:\./)?console/[^"]+)"', client.get("/console").text)
    return {f"/{name.removeprefix('./')}" for name in names}


def test_every_file_that_the_pages_name_is_served(anonymous: TestClient) -> None:
    served = loaded(anonymous, *named_by_the_page(anonymous), *(f"/console/pages/{name}.js" for name in PAGES))
    assert {"/console/preact.mjs", CHARTS, "/console/pages/guide.js", "/console/charts.js"} <= served.keys()


@pytest.mark.row("UI-6")
@pytest.mark.parametrize("name", PAGES)
def test_each_page_needs_less_than_150_kb_of_script(anonymous: TestClient, name: str) -> None:
    """Each file is compressed as the gateway does. Charts are loaded when there is one to draw."""
    named = {path for path in named_by_the_page(anonymous) if not path.endswith(".css")} - {CHARTS}
    scripts = loaded(anonymous, *named, f"/console/pages/{name}.js")
    assert {"/console/preact.mjs", "/console/app.js", "/console/view.js"} <= scripts.keys()
    assert sum(len(gzip.compress(content)) for content in scripts.values()) < 150_000


def test_the_rights_that_people_choose_are_those_of_the_api(anonymous: TestClient) -> None:
    script = anonymous.get("/console/members.js").text
    listed = set(re.findall(r'"([a-z-]+:[a-z]+)"', script))
    assert listed == {*UserPermission, *Privilege}


def test_the_events_that_people_choose_are_those_of_the_api(anonymous: TestClient) -> None:
    script = anonymous.get("/console/pages/operations.js").text
    listed = script.partition("EVENTS = [")[2].partition("]")[0]
    assert re.findall(r'"([a-z._]+)"', listed) == [*WebhookEventType]


def test_each_section_of_the_menu_belongs_to_a_page(anonymous: TestClient) -> None:
    menu = anonymous.get("/console/sections.js").text
    assert re.findall(r'^  \["([a-z]+)", "', menu, re.MULTILINE) == list(PAGES)


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
