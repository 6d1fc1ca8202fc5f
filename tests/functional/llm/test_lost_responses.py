"""Tests of calls of language models whose writes get no response from AWS."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.llm.limit_usage import LimitUsages, Reservation
from tests.faults.boundary import Boundary, Fault
from tests.fixtures.clocks import MovableClock
from tests.fixtures.upstream import FakeUpstream
from tests.functional.llm.test_limits import CHAT, OPENAI, set_limits, upstream, usage

__all__ = ["upstream"]
QUESTION = {"model": "small", **CHAT}
TOKENS_OF_A_CALL = 6
LIMITS = "limit_usage#"
# The writes of a call that is not the first of its minute: its reservation, and its real use.
RESERVE, SETTLE = 1, 2


@pytest.mark.row("X-5", "EN-4")
def test_a_call_does_not_meet_its_own_reservation_when_the_response_is_lost(
    client: TestClient, upstream: FakeUpstream, boundary: Boundary, clock: MovableClock
) -> None:
    """The SDK repeats the write, and its condition then finds the reservation that it stored itself."""
    set_limits(client, concurrent_calls=1, tokens_per_day=1000)
    assert client.post(OPENAI, json=QUESTION).status_code == 200
    with boundary.failing(Fault.LATE_LOST, at=RESERVE, about=LIMITS):
        assert client.post(OPENAI, json=QUESTION).status_code == 200
    assert boundary.injected.total() == 1
    assert client.post(OPENAI, json=QUESTION).status_code == 200
    assert usage(client, "concurrent_calls")["reserved"] == 0
    assert usage(client, "tokens_per_day") | {"resets_at": ""} == {
        "limit": 1000, "used": 3 * TOKENS_OF_A_CALL, "reserved": 0, "resets_at": ""
    }  # fmt: skip


@pytest.mark.row("X-5", "EN-4")
def test_a_settlement_whose_response_is_lost_is_counted_once(
    client: TestClient, upstream: FakeUpstream, boundary: Boundary, clock: MovableClock
) -> None:
    set_limits(client, tokens_per_day=100_000, concurrent_calls=1)
    assert client.post(OPENAI, json=QUESTION).status_code == 200
    with boundary.failing(Fault.LATE_LOST, at=SETTLE, about=LIMITS):
        assert client.post(OPENAI, json=QUESTION).status_code == 200
    assert boundary.injected.total() == 1
    tokens = usage(client, "tokens_per_day")
    assert (tokens["used"], tokens["reserved"]) == (2 * TOKENS_OF_A_CALL, 0)
    assert usage(client, "concurrent_calls")["reserved"] == 0


@pytest.mark.row("X-5", "EN-4")
def test_a_reservation_that_never_got_a_response_is_given_back(
    client: TestClient, upstream: FakeUpstream, boundary: Boundary, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_limits(client, concurrent_calls=1)
    reserve = LimitUsages.reserve

    def lose(usages: LimitUsages, reservation: Reservation) -> Reservation:
        with boundary.failing(Fault.LATE_LOST):
            return reserve(usages, reservation)

    with monkeypatch.context() as patches:
        patches.setattr(LimitUsages, "reserve", lose)
        assert client.post(OPENAI, json=QUESTION).status_code == 503
    assert upstream.calls() == []
    assert client.post(OPENAI, json=QUESTION).status_code == 200


@pytest.mark.row("X-5", "EN-4")
def test_a_failed_settlement_of_one_limit_leaves_the_use_of_the_others(
    client: TestClient, upstream: FakeUpstream, boundary: Boundary, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/spaces/{client.headers['X-Space-Id']}/limits"
    client.put(path, json={"space": {"tokens_per_day": 9000}, "each_user": {"tokens_per_day": 9000}})
    replace = LimitUsages.replace

    def fail(usages: LimitUsages, reservation: Reservation, used: Any) -> None:
        if reservation.subject.name == "the space":
            with boundary.failing(Fault.BROKEN):
                replace(usages, reservation, used)
        replace(usages, reservation, used)

    with monkeypatch.context() as patches:
        patches.setattr(LimitUsages, "replace", fail)
        # The call has its result, so a failure of its settlement does not take it away.
        assert client.post(OPENAI, json=QUESTION).status_code == 200
    shown = client.get(path).json()
    assert shown["own_usage"]["tokens_per_day"]["used"] == TOKENS_OF_A_CALL
    assert shown["own_usage"]["tokens_per_day"]["reserved"] == 0
    assert shown["space_usage"]["tokens_per_day"]["reserved"] > 0
    [row] = client.get("/inference-logs").json()["data"]
    assert (row["status"], row["total_tokens"]) == ("success", TOKENS_OF_A_CALL)
