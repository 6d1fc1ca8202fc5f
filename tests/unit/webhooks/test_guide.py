"""Tests the receiver in docs/webhooks.md."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.webhooks.signature import sign

GUIDE = (Path(__file__).parents[3] / "docs/webhooks.md").read_text()
OLD, NEW = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_bmV3IHNlY3JldCBvZiB0ZXN0cw=="


@pytest.mark.row("X-13")
def test_the_code_of_the_guide_accepts_only_genuine_messages() -> None:
    [code] = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    scope: dict[str, Any] = {}
    exec(code, scope)  # noqa: S102 - our own guide
    is_genuine, body, now = scope["is_genuine"], b'{"type": "training.completed"}', datetime.now(UTC)
    headers = sign(NEW, "01a2081a", now, body, OLD)
    assert is_genuine(NEW, headers, body)
    assert is_genuine(OLD, headers, body)
    assert not is_genuine("whsec_YW5vdGhlcg==", headers, body)
    assert not is_genuine(NEW, headers, body + b" ")
    assert not is_genuine(NEW, headers | {"webhook-id": "another"}, body)
    assert not is_genuine(NEW, sign(NEW, "01a2081a", now - timedelta(minutes=6), body), body)
