"""What shortens a cold start: handlers import it before all else, and ``lambda_handler`` ends it.

Importing makes hundreds of thousands of objects that all stay: looking through them for garbage again and again would
be a tenth of the time. And FastAPI defines OpenAPI's models as soon as it is imported, though only describing the API
needs them: they are built when they are first used, as are our own by ``Model``'s setting. PyJWT imports what reads
keys from certificates; ours are JSON. aiohttp reads the machine's certificates as it is imported, twice, also where
models are served without TLS: each context reads them when it first connects.
"""

import gc
import ssl
import sys
from collections.abc import Callable
from importlib.util import LazyLoader, find_spec, module_from_spec
from typing import Any

import cryptography
from pydantic import BaseModel, ConfigDict


def begin() -> None:
    gc.disable()
    # FastAPI's models take no setting from us; they inherit what is every model's default while they are defined.
    default = BaseModel.model_config
    BaseModel.model_config = ConfigDict(defer_build=True)
    try:
        import fastapi  # noqa: F401
    finally:
        BaseModel.model_config = default
    _import_x509_when_used()
    _read_certificates_when_connecting()


def end() -> None:
    """All is imported: it stays, and is looked through no more; what comes from now on is collected as ever."""
    gc.freeze()
    gc.enable()


def _import_x509_when_used() -> None:
    name = "cryptography.x509"
    if (spec := find_spec(name)) and spec.loader:
        spec.loader = LazyLoader(spec.loader)
        module = sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(module)
        # The import statement looks here first, and would look into the module, and so load it, elsewhere.
        cryptography.x509 = module  # type: ignore[attr-defined]


def _read_certificates_when_connecting() -> None:
    context: Any = ssl.SSLContext
    read = context.set_default_verify_paths

    def set_default_verify_paths(self: Any) -> None:
        self.unread = True

    def reading(connect: Callable[..., Any]) -> Callable[..., Any]:
        def read_and_connect(self: Any, *arguments: Any, **named: Any) -> Any:
            if self.__dict__.pop("unread", False) and self.verify_mode is not ssl.CERT_NONE:
                read(self)
            return connect(self, *arguments, **named)

        return read_and_connect

    context.set_default_verify_paths = set_default_verify_paths
    context.wrap_bio, context.wrap_socket = reading(context.wrap_bio), reading(context.wrap_socket)


begin()
