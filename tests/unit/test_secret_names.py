"""Secrets are found by their names at any depth, and hidden in audit rows and log lines."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.audit.store import _as_text
from shared.observability import logger
from shared.secret_names import find_secret, is_secret_name, without_secrets

SECRET = "s3cr3t-of-the-test-0123456789"
NAMES = (
    "password", "Password", "db_password", "userPassword", "token", "api_key", "apiKey", "X-Api-Key", "clientSecret",
    "AWS_SECRET_ACCESS_KEY", "secret_key", "sessionToken", "private-key", "pwd", "secret", "Authorization",
    "credentials", "access_token", "passphrase", "secretKey",
)  # fmt: skip
OTHER_NAMES = (
    "key", "keyword", "account_key", "customer_key", "monkey", "tokens", "token_count", "password_changed_at",
    "secretary", "has_passport", "access_key_id", "primary_key", "tokenizer", "pass",
)  # fmt: skip
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(OTHER_NAMES), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def trees_with_a_secret(draw: st.DrawFn) -> Any:
    value: Any = {
        **draw(st.dictionaries(st.sampled_from(OTHER_NAMES), PLAIN, max_size=3)),
        draw(st.sampled_from(NAMES)): SECRET,
    }
    for _ in range(draw(st.integers(0, 5))):
        others = draw(st.dictionaries(st.sampled_from(OTHER_NAMES), PLAIN, max_size=2))
        value = draw(st.sampled_from(([value], [None, value], {**others, "inner": value})))
    return value


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_a_secret_is_recognised(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_an_ordinary_name_is_no_name_of_a_secret(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.row("SE-7")
@given(trees_with_a_secret())
def test_a_secret_is_found_and_hidden_at_any_depth(tree: Any) -> None:
    assert find_secret(tree)
    assert SECRET not in json.dumps(without_secrets(tree))
    assert SECRET not in _as_text({"data": tree}, ["data"], "connector", "after")


@given(PLAIN)
def test_content_without_secrets_stays_as_it_is(tree: Any) -> None:
    assert find_secret(tree) is None
    assert without_secrets(tree) == tree


def test_a_schema_may_describe_a_secret() -> None:
    schema = {"type": "object", "properties": {"password": {"type": "string"}, "token": True}, "required": ["password"]}
    assert find_secret(schema) is None


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    written = io.StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", written)
    return written


@pytest.mark.row("SE-7")
def test_no_secret_is_logged_in_fields_or_errors(log: io.StringIO) -> None:
    logger.info("connected", extra={"config": {"auth": [{"secret_key": SECRET}]}, "token": SECRET})
    texts = (
        f"password={SECRET}",
        f"{{'secret_access_key': '{SECRET}'}}",
        f'{{"client_secret": "{SECRET}"}}',
        f"Bearer {SECRET}",
        f"the key ik_{SECRET} is bad",
        f"whsec_{SECRET}",
    )
    for text in texts:
        try:
            raise ValueError(text)
        except ValueError:
            logger.exception(text)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert len(lines) == len(texts) + 1
    assert all(line["stack_trace"] for line in lines[1:])
    assert SECRET not in log.getvalue()


def test_lines_keep_everything_else(log: io.StringIO) -> None:
    logger.info("request", extra={"status": 200, "api_key": None, "path": "/api-keys", "note": "a token: many tokens"})
    line = json.loads(log.getvalue())
    assert (line["status"], line["path"], line["note"]) == (200, "/api-keys", "a token: many tokens")
