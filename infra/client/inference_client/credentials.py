"""Signs in where the console does, and keeps the credentials in a file that only its user can read."""

import base64
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx

# The user pool sends the browser back here; `infra/constructs/console.py` allows this address.
CALLBACK = "http://localhost:8977/"
RENEW_SECONDS = 60
SILENT_SECONDS = 2.0


class NotSignedInError(Exception):
    """Error raised without usable credentials. The message says what to do."""


def credentials_file() -> Path:
    """Returns where the credentials are."""
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "inference" / "credentials.json"


@dataclass
class StoredSignIn:
    """The address of the API, a token, and how to get the next one."""

    url: str | None = None
    token: str | None = None
    space_id: str | None = None
    refresh_token: str | None = None
    client_id: str | None = None
    token_endpoint: str | None = None
    pool_url: str | None = None

    @classmethod
    def load(cls) -> Self:
        """Reads the credentials of the last sign-in. Raises NotSignedInError."""
        try:
            return cls(**json.loads(credentials_file().read_text()))
        except FileNotFoundError:
            raise NotSignedInError("You are not signed in. Run: inference login ADDRESS-OF-THE-API") from None
        except (ValueError, TypeError):
            raise NotSignedInError(f"{credentials_file()} can't be read. Run: inference login") from None

    def save(self) -> None:
        """Writes the credentials, so that only their user can read them."""
        path = credentials_file()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(self), file)
        new.replace(path)

    def fresh_token(self) -> str:
        """Returns a token that is valid for the next minute. Raises NotSignedInError."""
        if self.token and _seconds_left(self.token) > RENEW_SECONDS:
            return self.token
        if not self.refresh_token:
            raise NotSignedInError("Your sign-in has expired. Run: inference login")
        try:
            self._renew()
        except (httpx.HTTPStatusError, NotSignedInError):
            raise NotSignedInError("Your sign-in has expired. Run: inference login") from None
        self.save()
        return self.token or ""

    def _renew(self) -> None:
        if self.pool_url:
            parameters = {"REFRESH_TOKEN": self.refresh_token}
            self._authenticate("REFRESH_TOKEN_AUTH", parameters)
        else:
            self._exchange({"grant_type": "refresh_token", "refresh_token": self.refresh_token})

    def sign_in_with_password(self, email: str, password: str) -> None:
        """Signs in at the emulated pool of a developer's machine, which makes an unknown user."""
        parameters = {"USERNAME": email, "PASSWORD": password}
        try:
            self._authenticate("USER_PASSWORD_AUTH", parameters)
        except NotSignedInError as refusal:
            # The pool answers alike for an unknown user and a wrong password; only the first can be signed up.
            try:
                self._sign_up(email, password)
            except NotSignedInError as other:
                raise (refusal if "exists" in str(other) else other) from None
            self._authenticate("USER_PASSWORD_AUTH", parameters)

    def sign_in_with_browser(self, authorization_endpoint: str, open_page: Callable[[str], Any]) -> None:
        """Signs in at the user pool's own pages by an authorization code with PKCE."""
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        query = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": CALLBACK,
            "scope": "openid email profile",
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        with _Callback(state) as callback:
            open_page(f"{authorization_endpoint}?{urlencode(query)}")
            answer = callback.wait()
        if "code" not in answer:
            raise NotSignedInError(f"The sign-in failed: {answer.get('error_description') or answer.get('error')}")
        fields = {"grant_type": "authorization_code", "code": answer["code"]}
        self._exchange({**fields, "redirect_uri": CALLBACK, "code_verifier": verifier})

    def _exchange(self, fields: Mapping[str, str | None]) -> None:
        response = httpx.post(self.token_endpoint or "", data={"client_id": self.client_id, **fields})
        tokens = response.raise_for_status().json()
        self._keep(tokens["id_token"], tokens.get("refresh_token"))

    def _authenticate(self, flow: str, parameters: Mapping[str, str | None]) -> None:
        body = {"ClientId": self.client_id, "AuthFlow": flow, "AuthParameters": parameters}
        result = self._pool("InitiateAuth", body)["AuthenticationResult"]
        self._keep(result["IdToken"], result.get("RefreshToken"))

    def _sign_up(self, email: str, password: str) -> None:
        attributes = [{"Name": "email", "Value": email}]
        sign_up = {"ClientId": self.client_id, "Username": email, "Password": password, "UserAttributes": attributes}
        self._pool("SignUp", sign_up)

    def _pool(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        target = f"AWSCognitoIdentityProviderService.{operation}"
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}
        response = httpx.post(self.pool_url or "", content=json.dumps(body), headers=headers)
        answer: dict[str, Any] = response.json()
        if response.is_error:
            raise NotSignedInError(f"The user pool refused: {answer.get('message')}")
        return answer

    def _keep(self, token: str, refresh_token: str | None) -> None:
        self.token, self.refresh_token = token, refresh_token or self.refresh_token


def _seconds_left(token: str) -> float:
    """Returns for how long an ID token is valid. An API key does not say it, and is always sent.

    Raises NotSignedInError for a token that can't be read.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return float("inf")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return float(claims["exp"]) - time.time()
    except (ValueError, KeyError, TypeError):
        raise NotSignedInError(
            "This is no ID token: its end can't be read. Copy all of it, or use an API key."
        ) from None


class _Callback:
    """Serves the page to which the user pool sends the browser, and notes what it brings.

    Any page in the browser can call this address, so only a call that knows the state of this sign-in counts.
    """

    def __init__(self, state: str) -> None:
        answers: list[dict[str, str]] = []
        self._answers = answers

        class Handler(BaseHTTPRequestHandler):
            # Browsers open connections ahead and send nothing.
            timeout = SILENT_SECONDS

            def do_GET(self) -> None:
                query = dict(parse_qsl(urlsplit(self.path).query))
                if not secrets.compare_digest(query.get("state", "").encode(), state.encode()):
                    self.send_error(404)
                    return
                answers.append(query)
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; charset=utf-8")
                self.end_headers()
                self.wfile.write(b"You are signed in. Close this page and go back to the terminal.")

            def log_message(self, *_: Any) -> None:
                """Logs nothing, because the address contains the code."""

        location = urlsplit(CALLBACK)
        self._server = HTTPServer((location.hostname or "", location.port or 0), Handler)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.server_close()

    def wait(self) -> dict[str, str]:
        """Returns the query of the sign-in."""
        while not self._answers:
            self._server.handle_request()
        return self._answers[0]
