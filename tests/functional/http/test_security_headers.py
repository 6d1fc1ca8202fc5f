"""Responses carry security headers, whichever part of the app makes them."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.api import build_api
from shared.http.middleware import BODY_LIMIT, SECURITY_HEADERS
from shared.resources import Resources
from shared.settings import Settings

PAGES = (
    "/",
    "/docs",
    "/docs/reference.js",
    "/docs/scalar/standalone.esm.js",
    "/openapi.json",
    "/console",
    "/console/config.json",
    "/console/app.js",
)


def headers_of(response: Any) -> dict[str, str]:
    return {name: response.headers.get(name, "") for name in SECURITY_HEADERS}


@pytest.mark.row("SE-8")
def test_errors_have_the_security_headers_and_are_not_cached(
    client: TestClient, anonymous: TestClient, settings: Settings
) -> None:
    broken = TestClient(
        build_api(Resources(settings.model_copy(update={"table_name": "missing"}))), raise_server_exceptions=False
    )
    responses = {
        401: anonymous.get("/me"),
        404: client.get("/nowhere"),
        405: client.delete("/me"),
        400: client.post("/data-models", content=b"{"),
        413: client.post("/data-models", content=b"x" * (BODY_LIMIT + 1)),
        500: broken.get("/data-models", headers=client.headers),
    }
    assert {status: response.status_code for status, response in responses.items()} == {key: key for key in responses}
    assert {status: headers_of(response) for status, response in responses.items()} == dict.fromkeys(
        responses, SECURITY_HEADERS
    )


@pytest.mark.row("SE-8")
def test_public_pages_may_be_cached_but_not_framed(anonymous: TestClient) -> None:
    for path in PAGES:
        headers = headers_of(anonymous.get(path))
        assert headers["Cache-Control"].startswith("public")
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        others = SECURITY_HEADERS.keys() - {"Cache-Control", "Content-Security-Policy"}
        assert {name: headers[name] for name in others} == {name: SECURITY_HEADERS[name] for name in others}


@pytest.mark.row("SE-8")
def test_health_and_progress_messages_are_not_cached(anonymous: TestClient) -> None:
    for response in (anonymous.get("/health"), anonymous.post("/webhooks", json={})):
        assert headers_of(response) == SECURITY_HEADERS
