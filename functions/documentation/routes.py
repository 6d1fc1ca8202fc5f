"""The API's own pages: health, the OpenAPI document, and Redoc. They need no token and touch no data."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse

from shared.errors import NotFoundError
from shared.http.app import describe
from shared.http.errors import errors
from shared.http.routers import GroupRouter
from shared.models.base import Model

router = GroupRouter("documentation", prefix="")

# Packaging writes the file here. In a checkout, the app builds the document.
DOCUMENT = Path(__file__).parent / "openapi.json"
REDOC_SCRIPTS = (
    Path(__file__).parent / "redoc.standalone.js",
    Path(__file__).parents[2] / "node_modules" / "redoc" / "bundles" / "redoc.standalone.js",
)
# Redoc loads its maker's logo from here, and hides a logo that is not an image.
LOGO = "https://cdn.redoc.ly/redoc/logo-mini.svg"

START = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Inference API</title>
<link rel="icon" href="data:,">
<style>
body { font: 17px/1.6 system-ui, sans-serif; max-width: 40rem; margin: 12vh auto; padding: 0 1rem }
a { color: light-dark(#1d5fd0, #8ab4ff) }
</style>
</head>
<body>
<main>
<h1>Inference API</h1>
<p>From customer files to the next best action.</p>
<ul>
<li><a href="console">Console</a>: upload files, train and compare models, decide, review, and watch</li>
<li><a href="docs">Reference</a>: every operation of the API, and its <a href="openapi.json">OpenAPI document</a></li>
</ul>
</main>
</body>
</html>
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Inference API</title>
<link rel="icon" href="data:,">
<style>body { margin: 0 }</style>
</head>
<body>
<redoc spec-url="openapi.json"></redoc>
<script src="docs/redoc.standalone.js"></script>
</body>
</html>
"""


# The page runs only our own script, and sends nothing to other hosts.
PAGE_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "worker-src blob:",
        "connect-src 'self'",
        "style-src 'unsafe-inline'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


# The document and the pages are the same for everyone, and change only with a release.
PUBLIC = {"Cache-Control": "public, max-age=300"}


class Health(Model):
    status: str


@lru_cache(maxsize=1)
def _packaged_document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(DOCUMENT.read_text())
    return document


@lru_cache(maxsize=1)
def _script() -> str:
    script = next((path for path in REDOC_SCRIPTS if path.exists()), None)
    if script is None:
        raise NotFoundError("The page's script is not installed. Run `make setup`, or read /openapi.json.")
    return script.read_text().replace(LOGO, "data:,")


@router.get("/health", extension=True)
def get_health() -> Health:
    """Get whether the API works."""
    return Health(status="ok")


@router.get("/openapi.json", extension=True)
def get_openapi(request: Request, response: Response) -> dict[str, Any]:
    """Get this document."""
    response.headers.update(PUBLIC)
    return _packaged_document() if DOCUMENT.exists() else describe(request.app)


@router.get("/", extension=True, include_in_schema=False)
def get_start() -> HTMLResponse:
    """Get a page with the ways into the product."""
    return HTMLResponse(START, headers={**PUBLIC, "Content-Security-Policy": PAGE_POLICY})


@router.get("/docs", extension=True, response_class=HTMLResponse)
def get_docs() -> HTMLResponse:
    """Get this document as a page, with a link to download it."""
    return HTMLResponse(PAGE, headers={**PUBLIC, "Content-Security-Policy": PAGE_POLICY})


@router.get("/docs/redoc.standalone.js", extension=True, include_in_schema=False, responses=errors(404))
def get_redoc() -> Response:
    """Get the page's script. It is served from here so that the page needs no other host."""
    return Response(_script(), media_type="text/javascript", headers={"Cache-Control": "public, max-age=86400"})
