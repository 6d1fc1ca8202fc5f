"""Tests of browser applications of other origins."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.api import build_api
from shared.resources import Resources

APP = "https://app.example.com"
ASKED = {
    "Origin": APP,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang,x-space-id",
}


@pytest.fixture
def browser(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    changed = resources.settings.model_copy(update={"cors_origins": f"{APP},http://localhost:3000"})
    monkeypatch.setattr(resources, "settings", changed)
    return TestClient(build_api(resources))


@pytest.mark.row("GW-7")
def test_a_named_origin_may_call_and_read(browser: TestClient) -> None:
    allowed = browser.options("/v1/chat/completions", headers=ASKED)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == APP
    assert "x-stainless-lang" in allowed.headers["access-control-allow-headers"]
    assert "POST" in allowed.headers["access-control-allow-methods"]
    refused = browser.post("/v1/chat/completions", json={}, headers={"Origin": APP})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == APP
    assert "Retry-After" in refused.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in refused.headers


@pytest.mark.row("GW-7")
@pytest.mark.parametrize("origin", ["https://evil.example.com", "https://app.example.com.evil.example", "null"])
def test_another_origin_may_not(browser: TestClient, origin: str) -> None:
    answer: Any = browser.options("/v1/chat/completions", headers={**ASKED, "Origin": origin})
    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers
    assert "access-control-allow-origin" not in browser.get("/health", headers={"Origin": origin}).headers


def test_no_origin_may_by_default(resources: Resources) -> None:
    answer = TestClient(build_api(resources)).options("/v1/chat/completions", headers=ASKED)
    assert "access-control-allow-origin" not in answer.headers
