import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from shared.webhooks.signature import SignatureError, sign, verify

SECRET = "whsec_" + base64.b64encode(b"a key of thirty-two bytes length").decode()
NOW = datetime(2026, 3, 1, 12, 0, 0, 987654, tzinfo=UTC)


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_a_signed_body_is_accepted_by_the_public_library_and_by_us(text: str) -> None:
    now = datetime.now(UTC)
    body = text.encode()

    headers = sign(SECRET, "msg_1", now, body)

    assert headers["webhook-signature"] == Webhook(SECRET).sign("msg_1", now, text)
    assert verify(SECRET, headers, body, now) == "msg_1"


def test_a_signature_of_the_public_library_is_accepted() -> None:
    headers = {
        "Webhook-Id": "msg_2",
        "Webhook-Timestamp": str(int(NOW.timestamp())),
        "Webhook-Signature": "v1,AAAA v1a,AAAA " + Webhook(SECRET).sign("msg_2", NOW, "{}"),
    }

    assert verify(SECRET, headers, b"{}", NOW) == "msg_2"


@pytest.mark.row("WH-1")
@pytest.mark.parametrize(
    "change",
    [
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,é"},
        {"webhook-id": "another"},
        {"webhook-timestamp": str(int(NOW.timestamp()) + 1)},
        {"webhook-timestamp": "soon"},
        {"webhook-timestamp": "9" * 40},
    ],
)
def test_a_forged_or_damaged_message_is_refused(change: dict[str, str]) -> None:
    headers = sign(SECRET, "msg", NOW, b"{}") | change

    with pytest.raises(SignatureError):
        verify(SECRET, headers, b"{}", NOW)


@pytest.mark.row("WH-1")
def test_another_body_another_key_and_a_missing_header_are_refused() -> None:
    headers = sign(SECRET, "msg", NOW, b"{}")

    with pytest.raises(SignatureError):
        verify(SECRET, headers, b"{ }", NOW)
    with pytest.raises(SignatureError):
        verify("whsec_" + base64.b64encode(b"another").decode(), headers, b"{}", NOW)
    for name in headers:
        with pytest.raises(SignatureError, match=name):
            verify(SECRET, {key: value for key, value in headers.items() if key != name}, b"{}", NOW)


@pytest.mark.row("WH-1")
@pytest.mark.parametrize("skew", [timedelta(minutes=5, seconds=2), -timedelta(minutes=5, seconds=2)])
def test_a_message_more_than_five_minutes_old_or_early_is_refused(skew: timedelta) -> None:
    headers = sign(SECRET, "msg", NOW, b"{}")

    with pytest.raises(SignatureError, match="five minutes"):
        verify(SECRET, headers, b"{}", NOW + skew)


def test_a_malformed_secret_raises_a_value_error() -> None:
    """A wrong secret is our mistake, so it must not look like a wrong signature."""
    with pytest.raises(ValueError, match="whsec_"):
        sign("whsec_not base64!", "msg", NOW, b"{}")
    with pytest.raises(ValueError, match="empty"):
        sign("whsec_", "msg", NOW, b"{}")
