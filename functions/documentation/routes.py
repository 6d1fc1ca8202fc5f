"""The API's own pages: health, the OpenAPI document, and the reference. They need no token and touch no data."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse

from shared.http.app import describe
from shared.http.errors import errors
from shared.http.pages import CACHED, MEDIA_TYPES, file_response, page, policy, sign_in_origins
from shared.http.routers import GroupRouter
from shared.models.base import Model

router = GroupRouter("documentation", prefix="")

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
# Packaging writes the document and Scalar here. A checkout builds the document, and has Scalar where npm installs it.
DOCUMENT = FOLDER / "openapi.json"
SCALAR = FOLDER / "scalar"
INSTALLED_SCALAR = Path(__file__).parents[2] / "node_modules" / "@scalar" / "api-reference" / "dist" / "browser"
# Scalar adds its styles to the page.
STYLES = "'self' 'unsafe-inline'"


class Health(Model):
    status: str


@cache
def _packaged_document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(DOCUMENT.read_text())
    return document


@cache
def _files() -> dict[str, Path]:
    """Returns the files by their addresses below ``/docs``."""
    folder = SCALAR if SCALAR.is_dir() else INSTALLED_SCALAR
    scalar = (folder / "standalone.esm.js", *(folder / "chunks").glob("*.js"))
    own = {path.name: path for path in STATIC.iterdir() if path.suffix in MEDIA_TYPES}
    return {f"scalar/{path.relative_to(folder).as_posix()}": path for path in scalar} | own


@router.get("/health", extension=True)
def get_health() -> Health:
    """Get whether the API works."""
    return Health(status="ok")


@router.get("/openapi.json", extension=True)
def get_openapi(request: Request, response: Response) -> dict[str, Any]:
    """Get this document."""
    response.headers.update(CACHED)
    return _packaged_document() if DOCUMENT.exists() else describe(request.app)


@router.get("/", extension=True, include_in_schema=False)
def get_start() -> Response:
    """Get a page with the ways into the product."""
    return page(STATIC / "start.html", policy(styles="'unsafe-inline'"))


@router.get("/docs", extension=True, response_class=HTMLResponse)
def get_docs(request: Request) -> Response:
    """Get this document as a page, where requests can be tried."""
    origins = sign_in_origins(request.app.state.resources.settings)
    return page(STATIC / "reference.html", policy(styles=STYLES, origins=origins))


@router.get("/docs/{file:path}", extension=True, include_in_schema=False, responses=errors(404))
def get_docs_file(file: str) -> Response:
    """Get a script or a style sheet of the reference, so that the page needs no other host."""
    return file_response(_files(), file)
