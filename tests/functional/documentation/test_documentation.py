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
    script = anonymous.get("/docs/reference.js")
    assert script.status_code == 200, script.text
    assert script.headers["content-type"].startswith("text/javascript")
    assert len(anonymous.get("/docs/scalar/standalone.esm.js").content) > 100_000


def test_no_address_below_the_reference_names_another_file(anonymous: TestClient) -> None:
    for path in (
        "routes.py",
        "../routes.py",
        "%2e%2e/routes.py",
        "scalar/standalone.js",
        "reference.html",
        "scalar/../",
    ):
        assert anonymous.get(f"/docs/{path}").status_code == 404, path
