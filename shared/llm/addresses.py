"""Reads the addresses of language model servers in the forms in which their operators write them."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

# People copy the address of a call. These ends belong to single calls.
_CALLS = ("chat/completions", "completions", "embeddings", "models", "responses")
# Some servers have OpenAI's API beside their own, below a version: /v1beta/openai.
_VERSIONED = re.compile(r"/v[0-9]+(?:(?:alpha|beta)[0-9]*)?(?:/openai)?$")


def base_address(url: str) -> str:
    """Returns the address of a server's API: without the end of a single call, and without a slash at its end."""
    base = urlunsplit(urlsplit(url)._replace(query="", fragment="")).rstrip("/")
    for call in _CALLS:
        if base.endswith(f"/{call}"):
            return base.removesuffix(f"/{call}").rstrip("/")
    return base


def api_root(url: str) -> str:
    """Returns the address below which a server has OpenAI's paths: its own version, or else ``/v1``."""
    base = url.rstrip("/")
    return base if _VERSIONED.search(base) else f"{base}/v1"


def server_root(url: str) -> str:
    """Returns the address below which a server has its other paths, such as ``/tokenize``."""
    return _VERSIONED.sub("", url.rstrip("/"))


def other_addresses(url: str) -> Iterator[str]:
    """Yields addresses of the same server at which the API may be if it is not at this one."""
    base = url.rstrip("/")
    yield f"{base}/openai"
    yield f"{base}/openai/v1"
    if api_root(base) == base:
        yield f"{base}/v1"
    origin = urlunsplit(urlsplit(base)._replace(path=""))
    while base != origin:
        base = base.rpartition("/")[0]
        yield f"{base}/v1"
