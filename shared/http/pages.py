"""What pages in the browser may load and call, and their files."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from fastapi import Response

from shared.errors import NotFoundError

MEDIA_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css"}
# Files change only with a release.
CACHED = {"Cache-Control": "public, max-age=300"}


class SignInSettings(Protocol):
    """Settings that say where people sign in."""

    @property
    def console_sign_in_url(self) -> str | None:
        """Returns the address of the user pool's pages."""

    @property
    def console_pool_url(self) -> str | None:
        """Returns the address of the emulated pool."""


def sign_in_origins(settings: SignInSettings) -> list[str]:
    """Returns the origins that a page calls to sign in."""
    addresses = (settings.console_sign_in_url, settings.console_pool_url)
    return ["://".join(urlsplit(address)[:2]) for address in addresses if address]


def policy(*, scripts: Iterable[str] = (), styles: str = "'self'", origins: Iterable[str] = ()) -> str:
    """Returns a content security policy: our own scripts, and requests to this API and to ``origins``."""
    return "; ".join(
        (
            "default-src 'none'",
            " ".join(("script-src 'self'", *scripts)),
            f"style-src {styles}",
            " ".join(("connect-src 'self'", *dict.fromkeys(origins))),
            "img-src data:",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


def page(path: Path, content_policy: str) -> Response:
    """Returns a page with its policy."""
    headers = {**CACHED, "Content-Security-Policy": content_policy}
    return Response(path.read_bytes(), media_type="text/html", headers=headers)


def file_response(files: Mapping[str, Path], name: str) -> Response:
    """Returns one of the files, so that no address can name another. Raises NotFoundError."""
    path = files.get(name)
    if path is None or not path.is_file():
        raise NotFoundError("There is no such file. Reload the page, or run `make setup` in a checkout.")
    return Response(path.read_bytes(), media_type=MEDIA_TYPES[path.suffix], headers=CACHED)
