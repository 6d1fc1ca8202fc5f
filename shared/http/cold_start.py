"""What shortens a cold start: handlers import it before all else, and ``lambda_handler`` ends it.

Importing makes hundreds of thousands of objects that all stay: looking through them for garbage again and again would
be a tenth of the time. And FastAPI defines OpenAPI's models as soon as it is imported, though only describing the API
needs them: they are built when they are first used, as are our own by ``Model``'s setting.
"""

import gc

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


def end() -> None:
    """All is imported: it stays, and is looked through no more; what comes from now on is collected as ever."""
    gc.freeze()
    gc.enable()


begin()
