import pytest
from fastapi.testclient import TestClient


@pytest.mark.row("C-17")
def test_the_documentation_needs_no_token_and_loads_nothing_from_other_servers(anonymous: TestClient) -> None:
    assert anonymous.get("/health").json() == {"status": "ok"}
    assert anonymous.get("/openapi.json").json()["openapi"].startswith("3.")
    page = anonymous.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert 'spec-url="openapi.json"' in page.text
    script = anonymous.get("/docs/redoc.standalone.js")
    assert script.status_code == 200, script.text
    assert script.headers["content-type"].startswith("text/javascript")
    assert len(script.content) > 100_000
    assert "//cdn." not in script.text
