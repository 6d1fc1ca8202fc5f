"""Asks a server what it serves when its address is registered, so that a wrong address is noticed then."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from shared.errors import ApiError, ValidationFailedError
from shared.llm.addresses import other_addresses
from shared.llm.completions import UnreachableError, UpstreamTimeoutError
from shared.llm.upstream import Upstream
from shared.network.sessions import Sessions

PROBE_SECONDS = 5.0
# Where else the API may be. All other addresses are of the same server.
ADDRESSES_TRIED = 5


@dataclass(frozen=True)
class Served:
    """The names of the models that a server lists, or why it lists none."""

    models: list[str] = field(default_factory=list)
    warning: str | None = None


async def ask_what_it_serves(sessions: Sessions, url: str, token: str | None) -> Served:
    """Returns what the server at an address serves.

    A server that does not answer now may be registered. Raises ValidationFailedError if it answers at another address.
    """
    try:
        return Served(await _models(sessions, url, token))
    except (UnreachableError, UpstreamTimeoutError) as error:
        return Served(warning=f"The server was registered, but it does not answer now: {error.message}")
    except ApiError as error:
        refusal = error
    with suppress(TimeoutError):
        async with asyncio.timeout(PROBE_SECONDS):
            for other in islice(other_addresses(url), ADDRESSES_TRIED):
                if await _answers(sessions, other, token):
                    raise ValidationFailedError.of("body.ingress_url", f"has no OpenAI API: set it to {other}")
    return Served(warning=f"The server was registered, but it lists no models: {refusal.message}")


async def _answers(sessions: Sessions, url: str, token: str | None) -> bool:
    try:
        await _models(sessions, url, token)
    except ApiError:
        return False
    return True


async def _models(sessions: Sessions, url: str, token: str | None) -> list[str]:
    models = await Upstream(sessions, url, token, PROBE_SECONDS, PROBE_SECONDS).models()
    return [model.id for model in models]
