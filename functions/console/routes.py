"""The console: pages for people, which call the public API from the browser. They have no server of their own.

The files in ``static`` are served as they are. The pages sign in at the user pool, and keep tokens in memory only.
"""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request, Response

from shared.http.errors import errors
from shared.http.pages import CACHED, MEDIA_TYPES, file_response, page, policy, sign_in_origins
from shared.http.routers import GroupRouter
from shared.models.base import Model
from shared.settings import Settings

router = GroupRouter("console", prefix="")

STATIC = Path(__file__).parent / "static"
PAGE = STATIC / "index.html"
# Packaging copies the libraries here. A checkout has them where npm installs them.
LIBRARIES = Path(__file__).parent / "libraries"
NODE_MODULES = Path(__file__).parents[2] / "node_modules"
LIBRARY_LIST = Path(__file__).parent / "libraries.txt"


class SignIn(Model):
    """Where the console signs in: at the pages of a user pool, at the emulated pool, or by a pasted token."""

    client_id: str | None = None
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    pool_url: str | None = None
    pool_id: str | None = None


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.resources.settings
    return settings


CurrentSettings = Annotated[Settings, Depends(_settings)]


@cache
def _files() -> dict[str, Path]:
    """Returns the files by their addresses below ``/console``, so that no address can name another file."""
    folder = LIBRARIES if LIBRARIES.is_dir() else NODE_MODULES
    libraries = {Path(name).name: folder / name for name in LIBRARY_LIST.read_text().split()}
    own = {path.relative_to(STATIC).as_posix(): path for path in STATIC.rglob("*") if path.suffix in MEDIA_TYPES}
    return libraries | own


@cache
def _import_map_digest() -> str:
    (import_map,) = re.findall(r'<script type="importmap">(.*?)</script>', PAGE.read_text(encoding="utf-8"))
    return base64.b64encode(hashlib.sha256(import_map.encode()).digest()).decode()


def _policy(settings: Settings) -> str:
    """Returns the page's policy: our own scripts, and requests to this API, the sign-in, and the bucket of uploads."""
    origins = sign_in_origins(settings)
    origins += [f"https://{settings.bucket_name}.s3.{settings.aws_region}.amazonaws.com"] if settings.aws_region else []
    return policy(scripts=[f"'sha256-{_import_map_digest()}'"], origins=origins)


@router.get("/console", extension=True, include_in_schema=False)
def get_console(settings: CurrentSettings) -> Response:
    """Get the console's page."""
    return page(PAGE, _policy(settings))


@router.get("/console/config.json", extension=True, include_in_schema=False)
def get_console_config(settings: CurrentSettings, response: Response) -> SignIn:
    """Get where the console signs in."""
    url = settings.console_sign_in_url
    response.headers.update(CACHED)
    return SignIn(
        client_id=settings.console_client_id,
        authorization_endpoint=f"{url}/oauth2/authorize" if url else None,
        token_endpoint=f"{url}/oauth2/token" if url else None,
        pool_url=settings.console_pool_url,
        pool_id=settings.console_pool_id,
    )


@router.get("/console/{file:path}", extension=True, include_in_schema=False, responses=errors(404))
def get_console_file(file: str) -> Response:
    """Get a script or a style sheet of the console."""
    return file_response(_files(), file)
