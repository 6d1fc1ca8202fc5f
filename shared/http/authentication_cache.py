"""Cache of authentications for a few seconds, so that not every call of a conversation reads them again."""

from collections.abc import Hashable
from datetime import datetime
from typing import Generic, TypeVar

from shared.clock import Clock

MAX_ENTRIES = 10_000

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class AuthenticationCache(Generic[K, V]):
    """Keeps values for ``seconds``, but never beyond their own end; 0 keeps none.

    A right that is withdrawn may hold for ``seconds`` longer. A new right holds immediately, because refusals are not
    kept.
    """

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._seconds = seconds
        self._clock = clock
        self._kept: dict[K, tuple[V, float]] = {}

    def find(self, key: K) -> V | None:
        """Returns the value of the key, or ``None`` when it is unknown or too old."""
        value, ends_at = self._kept.get(key, (None, 0.0))
        return value if self._clock().timestamp() < ends_at else None

    def keep(self, key: K, value: V, checked_at: datetime, expires_at: float) -> None:
        """Keeps the value until ``expires_at`` (Unix seconds) at most.

        The time counts from ``checked_at``, before the value was read: a right may be withdrawn while it is read.
        """
        if not self._seconds:
            return
        if len(self._kept) >= MAX_ENTRIES:  # the oldest goes, so that nobody can remove all others
            del self._kept[next(iter(self._kept))]
        self._kept[key] = value, min(checked_at.timestamp() + self._seconds, expires_at)
