"""The command line signs in, keeps credentials safe, and says what is wrong. An e2e test does its main path."""

import asyncio
import base64
import hashlib
import importlib
import json
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qsl, urlencode, urlsplit
from urllib.request import urlopen

import pytest
from typer.testing import CliRunner

from tests.fixtures.recorded_examples import recorded

pytestmark = pytest.mark.row("UI-8")

ME = recorded()["GET /me"]["response"]
SPACE = ME["spaces"][0]
SIGNED_IN = f"Signed in as {ME['email']}."


def token(seconds: float) -> str:
    """Returns an unsigned ID token that is valid for some seconds."""
    claims = json.dumps({"exp": time.time() + seconds}).encode()
    return f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.c2ln"


@dataclass
class UserPool:
    """An API with the pages and the tokens of a user pool. It keeps the rules of PKCE."""

    url: str = ""
    code: str = "the-code"
    challenge: str = ""
    lifetime: float = 3600.0
    grants: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    is_revoked: bool = False

    def answer(self, path: str, fields: dict[str, str], authorization: str) -> tuple[int, Any]:
        match path:
            case "/console/config.json":
                pages = {"authorization_endpoint": f"{self.url}/authorize", "token_endpoint": f"{self.url}/token"}
                return 200, {"client_id": "console", "pool_url": None, "pool_id": None, **pages}
            case "/token":
                return self._exchange(fields)
            case "/me":
                self.seen.append(authorization)
                return 200, ME
            case _:
                return 404, {"error": "There is no such thing.", "code": "not_found", "request_id": "request-1"}

    def _exchange(self, fields: dict[str, str]) -> tuple[int, Any]:
        self.grants.append(fields["grant_type"])
        if fields["grant_type"] == "refresh_token":
            wrong = self.is_revoked or fields["refresh_token"] != "refresh-1"
        else:
            digest = hashlib.sha256(fields["code_verifier"].encode()).digest()
            made = base64.urlsafe_b64encode(digest).decode().rstrip("=")
            wrong = (made, fields["code"]) != (self.challenge, self.code)
        if wrong:
            return 400, {"error": "invalid_grant"}
        return 200, {"id_token": token(self.lifetime), "refresh_token": "refresh-1"}

    def browse(self, address: str, **changes: str) -> None:
        """Does what a browser does whose user signs in: it follows the pool's redirect."""
        query = dict(parse_qsl(urlsplit(address).query))
        assert (query["response_type"], query["code_challenge_method"]) == ("code", "S256")
        self.challenge = query["code_challenge"]
        back = {"code": self.code, "state": query["state"], **changes}
        open_page = f"{query['redirect_uri']}?{urlencode(back)}"
        threading.Thread(target=lambda: urlopen(open_page).read()).start()  # noqa: S310 - loopback


@pytest.fixture
def pool() -> Iterator[UserPool]:
    pool = UserPool()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            fields = dict(parse_qsl(content))
            status, body = pool.answer(urlsplit(self.path).path, fields, self.headers.get("Authorization", ""))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Logs nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pool.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield pool
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def run(
    generated: Path, pool: UserPool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[..., tuple[int, str]]]:
    """Runs a command, and returns its exit status and what it printed."""
    monkeypatch.syspath_prepend(str(generated / "source"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("INFERENCE_URL", "INFERENCE_TOKEN", "INFERENCE_SPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("webbrowser.open", pool.browse)
    app = importlib.import_module("inference_client.cli").app

    def run(*arguments: str, given: str | None = None) -> tuple[int, str]:
        result = CliRunner().invoke(app, arguments, input=given)
        return result.exit_code, " ".join(result.output.split())

    yield run
    for name in [name for name in sys.modules if name.partition(".")[0] == "inference_client"]:
        del sys.modules[name]


def stored(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "inference" / "credentials.json").read_text())
    return found


def test_the_browser_signs_in_and_only_the_user_can_read_what_is_kept(
    run: Callable[..., tuple[int, str]], pool: UserPool, tmp_path: Path
) -> None:
    assert run("login", f"{pool.url}/") == (
        0,
        f"Sign in with the page that your browser opens. {SIGNED_IN}",
    )
    path = tmp_path / "inference" / "credentials.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    kept = stored(tmp_path)
    assert (kept["url"], kept["space_id"], kept["refresh_token"]) == (pool.url, SPACE["id"], "refresh-1")
    assert run("logout") == (0, "")
    assert not path.exists()


def test_a_sign_in_that_the_pool_refuses_fails(
    run: Callable[..., tuple[int, str]], pool: UserPool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(address: str) -> None:
        query = dict(parse_qsl(urlsplit(address).query))
        back = urlencode({"error": "access_denied", "state": query["state"]})
        threading.Thread(target=lambda: urlopen(f"{query['redirect_uri']}?{back}").read()).start()  # noqa: S310

    monkeypatch.setattr("webbrowser.open", refuse)
    assert run("login", pool.url)[1].endswith("The sign-in failed: access_denied")
    assert pool.grants == []
    assert not (tmp_path / "inference" / "credentials.json").exists()


def test_other_calls_of_the_browser_neither_sign_in_nor_end_the_sign_in(
    run: Callable[..., tuple[int, str]], pool: UserPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []
    silent = socket.socket()

    def browse(address: str) -> None:
        def answer() -> None:
            back = dict(parse_qsl(urlsplit(address).query))["redirect_uri"]
            silent.connect((urlsplit(back).hostname, urlsplit(back).port))
            for query in ("code=theirs&state=of-somebody-else", "code=theirs&state=%C3%A9", "code=theirs"):
                try:
                    urlopen(f"{back}?{query}")  # noqa: S310 - loopback
                except HTTPError as error:
                    found.append(error.code)
            pool.browse(address)

        threading.Thread(target=answer).start()

    monkeypatch.setattr("webbrowser.open", browse)
    monkeypatch.setattr("inference_client.credentials.SILENT_SECONDS", 0.2)
    with silent:
        assert run("login", pool.url)[0] == 0
    assert found == [404, 404, 404]
    assert pool.grants == ["authorization_code"]


def test_an_old_token_is_renewed_and_a_revoked_sign_in_says_what_to_do(
    run: Callable[..., tuple[int, str]], pool: UserPool, tmp_path: Path
) -> None:
    pool.lifetime = 30.0
    run("login", pool.url)
    pool.lifetime = 3600.0
    assert run("space", SPACE["name"]) == (0, f"Space {SPACE['name']}: {SPACE['id']}")
    assert pool.grants == ["authorization_code", "refresh_token", "refresh_token"]
    assert pool.seen[-1] == f"Bearer {stored(tmp_path)['token']}"
    pool.lifetime = 30.0
    (tmp_path / "inference" / "credentials.json").write_text(json.dumps(stored(tmp_path) | {"token": token(0)}))
    pool.is_revoked = True
    assert run("space", SPACE["name"]) == (1, "Your sign-in has expired. Run: inference login")


def test_a_key_from_standard_input_signs_in(
    run: Callable[..., tuple[int, str]], pool: UserPool, tmp_path: Path
) -> None:
    assert run("login", pool.url, "--with-token", given="ik_secret\n") == (0, SIGNED_IN)
    assert pool.seen == ["Bearer ik_secret"]
    assert stored(tmp_path)["token"] == "ik_secret"


@pytest.mark.parametrize("token", ["a.b.c", "e30.e30.e30", "e30.bnVsbA.e30"])
def test_what_is_no_token_is_not_sent(run: Callable[..., tuple[int, str]], pool: UserPool, token: str) -> None:
    status, printed = run("login", pool.url, "--with-token", given=token)
    assert (status, "This is no ID token" in printed, pool.seen) == (1, True, [])


def test_a_token_is_never_sent_in_the_clear(run: Callable[..., tuple[int, str]]) -> None:
    status, printed = run("login", "http://api.example.com", "--with-token", given="ik_secret")
    assert (status, "Use an address with https://" in printed) == (1, True)


def test_a_token_is_not_sent_to_another_api(
    run: Callable[..., tuple[int, str]], pool: UserPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("login", pool.url, "--with-token", given="ik_secret")
    monkeypatch.setenv("INFERENCE_URL", "http://127.0.0.1:9")
    status, printed = run("leaderboard")
    assert (status, printed) == (1, f"You are signed in at {pool.url}. Run: inference login http://127.0.0.1:9")


@pytest.mark.usefixtures("run")
def test_asynchronous_calls_carry_the_token_and_raise_errors(pool: UserPool) -> None:
    client_module = importlib.import_module("inference_client")
    get_me = importlib.import_module("inference_client.api.users.get_me")
    list_trainings = importlib.import_module("inference_client.api.trainings.list_trainings")

    async def call() -> None:
        async with client_module.connect(pool.url, "ik_secret") as client:
            assert (await get_me.asyncio(client=client)).email == ME["email"]
            with pytest.raises(client_module.ApiStatusError, match="no such thing") as error:
                await list_trainings.asyncio(client=client)
            assert (error.value.status, error.value.code, error.value.request_id) == (404, "not_found", "request-1")

    asyncio.run(call())
    assert pool.seen == ["Bearer ik_secret"]


def test_errors_are_one_line_and_name_the_request(run: Callable[..., tuple[int, str]], pool: UserPool) -> None:
    assert run("leaderboard") == (1, "You are not signed in. Run: inference login ADDRESS-OF-THE-API")
    run("login", pool.url, "--with-token", given="ik_secret")
    assert run("leaderboard") == (1, "There is no such thing. request id request-1")
    assert run("space", "Shop") == (1, f"You have no space 'Shop', but: {SPACE['name']}. Create it with --create.")
    assert run("decide", "{age: 41}")[1].startswith("This is not JSON")
