"""Who was let into which space a moment ago, so that not every call of a conversation is looked up anew."""

from dataclasses import dataclass

from shared.clock import Clock
from shared.http.tokens import Principal
from shared.spaces.members import Scope

REMEMBERED = 10_000


@dataclass(frozen=True)
class Admission:
    principal: Principal
    scope: Scope
    ends_at: float


class Admissions:
    """Remembers for ``seconds`` (none at all for 0), and never beyond the token's own end.

    So long may a right outlive its withdrawal; a new one counts at once, for refusals are not remembered.
    """

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._seconds = seconds
        self._clock = clock
        self._kept: dict[tuple[str, str], Admission] = {}

    def find(self, authorization: str, space_id: str) -> Admission | None:
        """What the same two headers were told a moment ago."""
        admission = self._kept.get((authorization, space_id))
        return admission if admission and self._clock().timestamp() < admission.ends_at else None

    def keep(self, authorization: str, space_id: str, principal: Principal, scope: Scope) -> None:
        if not self._seconds:
            return
        if len(self._kept) >= REMEMBERED:
            self._kept.clear()
        ends_at = min(self._clock().timestamp() + self._seconds, principal.expires_at)
        self._kept[authorization, space_id] = Admission(principal, scope, ends_at)
