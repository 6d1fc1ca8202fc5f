"""Standard Webhooks signatures: ``v1,base64(hmac-sha256("id.timestamp.body"))`` under a ``whsec_<base64>`` secret.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

SECRET_PREFIX = "whsec_"  # noqa: S105 - the spec's prefix, not a secret
TOLERANCE = timedelta(minutes=5)


class SignatureError(Exception):
    """The message isn't proven to come from a holder of the secret, or is too old or too new."""


def decode_secret(secret: str) -> bytes:
    """Returns the key's bytes.

    Raises:
        ValueError: the secret isn't base64, with or without the prefix.
    """
    try:
        key = base64.b64decode(secret.strip().removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("the webhook secret must be whsec_ followed by base64") from error
    if not key:
        raise ValueError("the webhook secret is empty")
    return key


def sign(secret: str, message_id: str, timestamp: datetime, body: bytes, *older: str) -> dict[str, str]:
    """Returns the three headers that prove ``body`` was sent by a holder of the secret, or of one of the ``older``
    ones.
    """
    seconds = str(int(timestamp.timestamp()))
    signatures = [f"v1,{_digest(decode_secret(key), message_id, seconds, body)}" for key in (secret, *older)]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": seconds,
        "webhook-signature": " ".join(signatures),
    }


def verify(secret: str, headers: Mapping[str, str], body: bytes, now: datetime) -> str:
    """Returns the message's id, once one of the header's signatures is found right and its time within five minutes of
    ``now``.

    Raises:
        SignatureError: a header is missing or malformed, the time is off, or no signature matches.
        ValueError: the secret itself is malformed.
    """
    key = decode_secret(secret)
    lowered = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, seconds, signatures = (lowered[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
        sent = datetime.fromtimestamp(int(seconds), UTC)
    except KeyError as error:
        raise SignatureError(f"the header {error.args[0]} is missing") from error
    except (ValueError, OverflowError, OSError) as error:
        raise SignatureError("the header webhook-timestamp is not a unix time in seconds") from error
    if abs(now - sent) > TOLERANCE:
        raise SignatureError("the message's time is more than five minutes off")
    expected = _digest(key, message_id, seconds, body).encode()
    # Several signatures, space-separated, let a secret be rotated.
    for signature in signatures.split():
        version, _, value = signature.partition(",")
        if version == "v1" and hmac.compare_digest(value.encode(), expected):
            return message_id
    raise SignatureError("no signature in webhook-signature matches the body")


def _digest(key: bytes, message_id: str, seconds: str, body: bytes) -> str:
    mac = hmac.new(key, b".".join((message_id.encode(), seconds.encode(), body)), hashlib.sha256)
    return base64.b64encode(mac.digest()).decode()
