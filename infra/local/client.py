"""A client of the public API, as any user would write one; the demo and the end-to-end tests go through it."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from infra.local.settings import LocalError

Json = dict[str, Any]
# A language model on a busy machine takes its time.
REQUEST_SECONDS = 300.0


class ApiError(LocalError):
    """An answer of 400 and above, in the API's own error shape where it has one."""

    def __init__(self, response: httpx.Response) -> None:
        try:
            body = response.json()
        except ValueError:
            body = {"error": response.text[:500]}
        request = response.request
        super().__init__(
            f"{request.method} {request.url.path} answered {response.status_code}: {body.get('error')} "
            f"(request id {body.get('request_id')})"
        )
        self.status = response.status_code
        self.code = body.get("code")
        self.body: Json = body


class ApiClient:
    """Calls one API with one user's token, in one space once ``space_id`` is set."""

    def __init__(self, url: str, token: str | None, space_id: str | None = None) -> None:
        self._http = httpx.Client(base_url=url, timeout=REQUEST_SECONDS, trust_env=False)
        self.token = token or ""
        if token:
            self._http.headers["Authorization"] = f"Bearer {token}"
        self.space_id = space_id

    def send(self, method: str, path: str, json: Any = None, **options: Any) -> httpx.Response:
        """The answer, whatever its status."""
        headers = dict(options.pop("headers", {}))
        if self.space_id:
            headers.setdefault("X-Space-Id", self.space_id)
        return self._http.request(method, path, json=json, headers=headers, **options)

    def call(self, method: str, path: str, json: Any = None, **options: Any) -> Any:
        """The answer's JSON; ApiError from 400 on."""
        response = self.send(method, path, json, **options)
        if response.status_code >= 400:
            raise ApiError(response)
        return response.json() if response.content else None

    def get(self, path: str, **query: Any) -> Any:
        """GET with a query."""
        return self.call("GET", path, params=query or None)

    def post(self, path: str, json: Any = None) -> Any:
        """POST of a JSON body."""
        return self.call("POST", path, json)

    def delete(self, path: str) -> Any:
        """DELETE."""
        return self.call("DELETE", path)

    def rows(self, path: str, **query: Any) -> Iterator[Json]:
        """All rows of a cursor list."""
        after = ""
        while True:
            page = self.get(path, limit=100, after=after, **query)
            yield from page["data"]
            if not page["has_more"]:
                return
            after = page["data"][-1]["id"]

    def upload(self, connector_id: str, files: Mapping[str, bytes | Path]) -> None:
        """Sends files to a managed connector, each by its presigned POST."""
        uploads = self.post(f"/connectors/{connector_id}/uploads", {"files": list(files)})["uploads"]
        for upload in uploads:
            content = files[upload["file"]]
            body = content.read_bytes() if isinstance(content, Path) else content
            sent = httpx.post(
                upload["url"],
                data=upload["fields"],
                files={"file": (Path(upload["file"]).name, body)},
                timeout=300,
                trust_env=False,
            )
            if sent.status_code >= 400:
                raise LocalError(f"The upload of {upload['file']} was refused ({sent.status_code}): {sent.text[:500]}")

    def wait(
        self,
        path: str,
        reached: Callable[[Any], bool],
        *,
        seconds: float,
        every: float = 0.5,
        watch: Callable[[Any], None] = lambda _: None,
    ) -> Any:
        """GETs until ``reached``; LocalError with the last answer when that takes too long."""
        deadline = time.monotonic() + seconds
        while True:
            answer = self.get(path)
            watch(answer)
            if reached(answer):
                return answer
            if time.monotonic() > deadline:
                raise LocalError(f"Waited {seconds:.0f} s for {path}; it still answers {str(answer)[:1000]}")
            time.sleep(every)
