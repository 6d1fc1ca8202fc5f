"""Builds the Lambda app of a group, and the app of the whole API."""

import warnings
from typing import Any, Protocol

from fastapi import FastAPI
from pydantic.warnings import UnsupportedFieldAttributeWarning

from shared.http.authentication import Authentication
from shared.http.errors import install_error_handlers
from shared.http.middleware import CorsMiddleware, CorsSettings, RequestMiddleware
from shared.http.routers import GroupRouter


class AppResources(Protocol):
    """Resources of a process that the HTTP layer uses."""

    @property
    def settings(self) -> CorsSettings:
        """Returns the settings of the process."""

    @property
    def authentication(self) -> Authentication:
        """Returns the authentication of callers."""


def create_app(resources: AppResources, *routers: GroupRouter) -> FastAPI:
    """Returns the app that serves ``routers``. It reads and connects nothing before the first request."""
    # FastAPI silences this warning for its own fields, but our models are built later, at their first use.
    warnings.filterwarnings("ignore", category=UnsupportedFieldAttributeWarning)
    app = FastAPI(
        title="Inference API",
        version="1.0",
        description="This is the API documentation for the Inference backend.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.resources = resources
    install_error_handlers(app)
    app.add_middleware(RequestMiddleware)
    app.add_middleware(CorsMiddleware, resources=resources)
    # The routers have their own prefixes, tags and checks. Including them would build every route a second time.
    app.router.routes.extend(route for router in routers for route in router.originals)
    app.router.routes.extend(route for router in routers for route in router.extensions)
    return app


def describe(app: FastAPI) -> dict[str, Any]:
    """Returns the OpenAPI document, without FastAPI's 422: this API returns 400 for validation errors."""
    document = app.openapi()
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        document.get("components", {}).get("schemas", {}).pop(name, None)
    return document
