"""The cache keeps an authentication for the same credentials, and for a limited time."""

from datetime import UTC, datetime, timedelta

from shared.http.authentication_cache import AuthenticationCache
from tests.fixtures.clocks import MovableClock

NOW = datetime(2026, 3, 15, tzinfo=UTC)
FOREVER = float("inf")


def test_a_value_is_found_only_by_its_key() -> None:
    cache: AuthenticationCache[str, str] = AuthenticationCache(10, MovableClock(NOW))
    cache.keep("alice", "value", NOW, FOREVER)
    assert (cache.find("alice"), cache.find("bob")) == ("value", None)


def test_a_value_is_kept_for_the_configured_time_and_not_after_its_expiry() -> None:
    clock = MovableClock(NOW)
    cache: AuthenticationCache[str, str] = AuthenticationCache(10, clock)
    cache.keep("long", "value", NOW, FOREVER)
    cache.keep("short", "value", NOW, NOW.timestamp() + 3)
    clock.now += timedelta(seconds=3)
    assert (cache.find("long"), cache.find("short")) == ("value", None)
    clock.now += timedelta(seconds=7)
    assert cache.find("long") is None


def test_a_cache_of_zero_seconds_keeps_nothing() -> None:
    cache: AuthenticationCache[str, str] = AuthenticationCache(0, MovableClock(NOW))
    cache.keep("alice", "value", NOW, FOREVER)
    assert cache.find("alice") is None


def test_the_time_counts_from_the_check_and_not_from_its_end() -> None:
    clock = MovableClock(NOW + timedelta(seconds=4))
    cache: AuthenticationCache[str, str] = AuthenticationCache(10, clock)
    cache.keep("slow", "value", NOW, FOREVER)
    clock.now += timedelta(seconds=6)
    assert cache.find("slow") is None
