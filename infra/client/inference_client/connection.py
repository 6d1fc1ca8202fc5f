"""Connects to the API with the credentials of ``inference login`` or of the environment."""

import os
from collections.abc import Generator
from typing import Any

import httpx
from inference_client.client import AuthenticatedClient
from inference_client.credentials import NotSignedInError, StoredSignIn

# A language model, or an upload through the API, may take this long.
SECONDS = 300.0


class ApiStatusError(Exception):
    """Error raised for a response with status 400 or above."""

    def __init__(self, response: httpx.Response) -> None:
        try:
            body = response.json()
        except ValueError:
            body = {}
        if not isinstance(body, dict):
            body = {}
        nested = body.get("error")
        # The routes below /v1 have OpenAI's shape of errors.
        fields = nested if isinstance(nested, dict) else {**body, "message": nested}
        self.status = response.status_code
        self.code = fields.get("code")
        self.details: list[dict[str, Any]] = fields.get("details") or []
        self.request_id = body.get("request_id") or response.headers.get("X-Request-Id")
        super().__init__(fields.get("message") or f"The API responded with status {response.status_code}.")


class _CurrentToken(httpx.Auth):
    """Sends the token that is valid now."""

    def __init__(self, signed_in: StoredSignIn) -> None:
        self._signed_in = signed_in

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._signed_in.fresh_token()}"
        yield request


class _Client(AuthenticatedClient):
    """Raises errors in its asynchronous calls, too: httpx awaits their hooks."""

    def get_async_httpx_client(self) -> httpx.AsyncClient:
        if self._async_client is None:
            options = {**self._httpx_args, "event_hooks": {"response": [raise_for_async_error]}}
            headers = {**self._headers, "Authorization": f"Bearer {self.token}"}
            self._async_client = httpx.AsyncClient(
                base_url=self._base_url, headers=headers, timeout=self._timeout, **options
            )
        return self._async_client


def connect(url: str | None = None, token: str | None = None, space: str | None = None) -> AuthenticatedClient:
    """Returns a client of the API. Its calls raise ``ApiStatusError`` for responses with status 400 or above.

    What is left out comes from ``INFERENCE_URL``, ``INFERENCE_TOKEN`` and ``INFERENCE_SPACE``, or else from the last
    ``inference login``. Raises ``NotSignedInError``.
    """
    token = token or os.environ.get("INFERENCE_TOKEN")
    url = (url or os.environ.get("INFERENCE_URL") or "").rstrip("/")
    space = space or os.environ.get("INFERENCE_SPACE")
    signed_in = StoredSignIn(url=url, token=token) if url and token else StoredSignIn.load()
    if url and url != signed_in.url:
        # A token must not be sent to another API.
        raise NotSignedInError(f"You are signed in at {signed_in.url}. Run: inference login {url}")
    space = space or signed_in.space_id
    return _Client(
        base_url=signed_in.url or "",
        token=token or signed_in.token or "",
        headers={"X-Space-Id": space} if space else {},
        timeout=httpx.Timeout(SECONDS),
        httpx_args={
            **({} if token else {"auth": _CurrentToken(signed_in)}),
            "event_hooks": {"response": [raise_for_error]},
        },
    )


def raise_for_error(response: httpx.Response) -> None:
    """Raises ``ApiStatusError`` for a response with status 400 or above."""
    if response.status_code >= 400:
        response.read()
        raise ApiStatusError(response)


async def raise_for_async_error(response: httpx.Response) -> None:
    """Raises ``ApiStatusError`` for a response with status 400 or above."""
    if response.status_code >= 400:
        await response.aread()
        raise ApiStatusError(response)
