"""Who was let in a moment ago is let in again, with the same headers and for a while only."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from shared.http.authentication_cache import Admissions
from shared.http.tokens import Principal
from shared.spaces.members import Scope

NOW = datetime(2026, 3, 15, tzinfo=UTC)
ANN = Principal("ann", "ann", "ann@example.com", True, "Ann", "Example", None, NOW.timestamp() + 3600)
SCOPE = Scope("bank", "ann")


class Clock:
    now = NOW

    def __call__(self) -> datetime:
        return self.now


def test_the_same_headers_are_remembered_and_no_others() -> None:
    admissions = Admissions(10, Clock())
    admissions.keep("Bearer a", "bank", ANN, SCOPE)
    found = admissions.find("Bearer a", "bank")
    assert found is not None
    assert (found.principal, found.scope) == (ANN, SCOPE)
    assert admissions.find("Bearer b", "bank") is admissions.find("Bearer a", "") is None


def test_nobody_is_remembered_longer_than_said_or_beyond_the_end_of_the_token() -> None:
    clock = Clock()
    admissions = Admissions(10, clock)
    admissions.keep("Bearer long", "", ANN, SCOPE)
    admissions.keep("Bearer short", "", replace(ANN, expires_at=NOW.timestamp() + 3), SCOPE)
    clock.now += timedelta(seconds=3)
    assert admissions.find("Bearer long", "") is not None
    assert admissions.find("Bearer short", "") is None
    clock.now += timedelta(seconds=7)
    assert admissions.find("Bearer long", "") is None


def test_nothing_is_remembered_for_no_time() -> None:
    admissions = Admissions(0, Clock())
    admissions.keep("Bearer a", "", ANN, SCOPE)
    assert admissions.find("Bearer a", "") is None
