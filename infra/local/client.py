"""A client of the public API, which the demo and the end-to-end tests use."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from infra.local.settings import LocalError

Json = dict[str, Any]
# A language model on a busy machine is slow.
REQUEST_SECONDS = 300.0


class ApiResponseError(LocalError):
    """Error raised for a response with status 400 or above."""

    def __init__(self, response: httpx.Response) -> None:
        try:
            body = response.json()
        except ValueError:
            body = {"error": response.text[:500]}
        request = response.request
        super().__init__(
            f"{request.method} {request.url.path} returned {response.status_code}: {body.get('error')} "
            f"(request id {body.get('request_id')})"
        )
        self.status = response.status_code
        self.code = body.get("code")
        self.body: Json = body


class ApiClient:
    """Client of one API with one user's token. ``space_id`` selects a space."""

    def __init__(self, url: str, token: str | None, space_id: str | None = None) -> None:
        self._http = httpx.Client(base_url=url, timeout=REQUEST_SECONDS, trust_env=False)
        self.token = token or ""
        if token:
            self._http.headers["Authorization"] = f"Bearer {token}"
        self.space_id = space_id

    def send(self, method: str, path: str, json: Any = None, **options: Any) -> httpx.Response:
        """Sends a request and returns the response, also an error."""
        headers = dict(options.pop("headers", {}))
        if self.space_id:
            headers.setdefault("X-Space-Id", self.space_id)
        return self._http.request(method, path, json=json, headers=headers, **options)

    def call(self, method: str, path: str, json: Any = None, **options: Any) -> Any:
        """Sends a request and returns the JSON of the response. Raises ApiResponseError from status 400."""
        response = self.send(method, path, json, **options)
        if response.status_code >= 400:
            raise ApiResponseError(response)
        return response.json() if response.content else None

    def get(self, path: str, **query: Any) -> Any:
        return self.call("GET", path, params=query or None)

    def post(self, path: str, json: Any = None) -> Any:
        return self.call("POST", path, json)

    def delete(self, path: str) -> Any:
        return self.call("DELETE", path)

    def rows(self, path: str, **query: Any) -> Iterator[Json]:
        """Reads every page of a list and yields its rows."""
        after = ""
        while True:
            page = self.get(path, limit=100, after=after, **query)
            yield from page["data"]
            if not page["has_more"]:
                return
            after = page.get("next_after") or page["data"][-1]["id"]

    def upload(self, connector_id: str, files: Mapping[str, bytes | Path]) -> None:
        """Uploads files to a managed connector with presigned POST requests."""
        uploads = self.post(f"/connectors/{connector_id}/uploads", {"files": list(files)})["uploads"]
        for upload in uploads:
            content = files[upload["file"]]
            body = content.read_bytes() if isinstance(content, Path) else content
            response = httpx.post(
                upload["url"],
                data=upload["fields"],
                files={"file": (Path(upload["file"]).name, body)},
                timeout=300,
                trust_env=False,
            )
            if response.status_code >= 400:
                raise LocalError(
                    f"The upload of {upload['file']} was refused ({response.status_code}): {response.text[:500]}"
                )

    def wait(
        self,
        path: str,
        reached: Callable[[Any], bool],
        *,
        seconds: float,
        every: float = 0.5,
    ) -> Any:
        """Repeats a GET until ``reached`` accepts the response. Raises LocalError after ``seconds``."""
        deadline = time.monotonic() + seconds
        while True:
            response = self.get(path)
            if reached(response):
                return response
            if time.monotonic() > deadline:
                raise LocalError(f"Waited {seconds:.0f} s for {path}. The last response was {str(response)[:1000]}")
            time.sleep(every)
