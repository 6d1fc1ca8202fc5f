"""What shortens a cold start: handlers import it before all else, and ``lambda_handler`` ends it.

Importing makes hundreds of thousands of objects that all stay: looking through them for garbage again and again would
be a tenth of the time. And FastAPI defines OpenAPI's models as soon as it is imported, though only describing the API
needs them: they are built when they are first used, as are our own by ``Model``'s setting. And aiohttp, as soon as it
is imported, reads the machine's certificates a second time, for connections that trust any server: these read none.
"""

import gc
import ssl

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
    ssl.SSLContext.set_default_verify_paths = _read_certificates_to_verify  # type: ignore[assignment,method-assign]


def _read_certificates_to_verify(context: ssl.SSLContext) -> None:
    if context.verify_mode is not ssl.CERT_NONE:
        super(ssl.SSLContext, context).set_default_verify_paths()


def end() -> None:
    """All is imported: it stays, and is looked through no more; what comes from now on is collected as ever."""
    gc.freeze()
    gc.enable()


begin()
