"""The API's own pages: health, the OpenAPI document, and Redoc. They need no token and touch no data."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import FileResponse, HTMLResponse

from shared.errors import NotFoundError
from shared.http.app import describe
from shared.http.errors import errors
from shared.http.routers import public_router
from shared.models.base import Model

router = public_router("documentation", prefix="")

# Written next to this file when the functions are packaged; on a checkout the app describes itself.
DOCUMENT = Path(__file__).parent / "openapi.json"
REDOC_SCRIPTS = (
    Path(__file__).parent / "redoc.standalone.js",
    Path(__file__).parents[2] / "node_modules" / "redoc" / "bundles" / "redoc.standalone.js",
)

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Inference API</title>
<style>body { margin: 0 }</style>
</head>
<body>
<redoc spec-url="openapi.json"></redoc>
<script src="docs/redoc.standalone.js"></script>
</body>
</html>
"""


class Health(Model):
    status: str


@lru_cache(maxsize=1)
def _packaged_document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(DOCUMENT.read_text())
    return document


@router.get("/health")
def get_health() -> Health:
    """Whether the API answers."""
    return Health(status="ok")


@router.get("/openapi.json")
def get_openapi(request: Request) -> dict[str, Any]:
    """This document."""
    return _packaged_document() if DOCUMENT.exists() else describe(request.app)


@router.get("/docs", response_class=HTMLResponse)
def get_docs() -> HTMLResponse:
    """The document as a page, with a link to download it."""
    return HTMLResponse(PAGE)


@router.get("/docs/redoc.standalone.js", response_class=FileResponse, include_in_schema=False, responses=errors(404))
def get_redoc() -> FileResponse:
    """The page's script, served from here so that the page needs nobody else."""
    script = next((path for path in REDOC_SCRIPTS if path.exists()), None)
    if script is None:
        raise NotFoundError("The page's script is not installed. Run `make setup`, or read /openapi.json.")
    return FileResponse(script, media_type="text/javascript", headers={"Cache-Control": "public, max-age=86400"})
