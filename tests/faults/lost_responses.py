"""A scenario that loses the responses to each write of requests, one by one, for good."""

from collections.abc import Callable
from itertools import count
from typing import Any

from shared.clock import new_id
from tests.faults.aftermath import problems_afterwards
from tests.faults.boundary import Fault, seeded
from tests.faults.emulated_platform import EmulatedPlatform
from tests.faults.external_services import complete
from tests.faults.killed_workers import Outcome
from tests.faults.limit_checks import PLENTY, wrong_limits, wrong_logs
from tests.fixtures.arguments import add_argument
from tests.fixtures.trainings import space_of

HELLO = [{"role": "user", "content": "Hello"}]
FACTS = {"client": {"name": "Anna"}, "insight_spec": {"insight": "Travels"}, "product": {"name": "Card"}}
OFFER = {"name": "Loan", "description": "", "priority": "high", "type": "offer", "status": "active"}


def lost_responses(platform: EmulatedPlatform, seed: int) -> Outcome:
    """Executes every write, but loses its response and those of all its repetitions. The client repeats the request."""
    worker = platform.worker()
    owner = platform.owner(worker)
    space_id = space_of(owner)
    platform.upstream.script = complete
    limits = {"space": PLENTY, "each_user": PLENTY, "prices": {"small": {"input": 1, "output": 10}}}
    owner.put(f"/spaces/{space_id}/limits", json=limits).raise_for_status()
    owner.post("/actions", json=OFFER).raise_for_status()

    def made(path: str, body: Any) -> str:
        response = owner.post(path, json=body)
        response.raise_for_status()
        return f"{path}/{response.json()['id']}"

    requests: tuple[Callable[[], tuple[str, str, Any]], ...] = (
        lambda: ("POST", "/chats", {"messages": HELLO}),
        lambda: ("POST", "/v1/chat/completions", {"model": "small", "messages": HELLO}),
        lambda: ("POST", "/arguments", {**FACTS, "model": "small"}),
        lambda: ("POST", "/experts", {"name": "Loans", "description": "", "context": "Knows loans."}),
        lambda: ("POST", f"{made('/insights', {'client': {'number': 1}})}/reactions", {"reaction": "accepted"}),
        lambda: ("PUT", made("/chats", {"messages": HELLO}), {"messages": [{"role": "user", "content": "Other"}]}),
        lambda: ("PUT", made("/data-models", {"name": "Churn"}), {"name": "Loss"}),
        lambda: ("DELETE", made("/chats", {"messages": HELLO}), None),
        lambda: ("DELETE", f"/arguments/{add_argument(worker.table, space_id)}", None),
    )
    broken: list[str] = []
    lost = 0
    for make in requests:
        for at in count(1):
            method, path, body = make()
            sent = {"json": body, "headers": {"Idempotency-Key": new_id()} if method == "POST" else {}}
            with platform.boundary.failing(Fault.LATE_LOST, at=at, lasts=True):
                first = owner.request(method, path, **sent)
            if platform.boundary.writes < at:
                break
            lost += 1
            status = owner.request(method, path, **sent).status_code
            if status >= 400 and (method, status) != ("DELETE", 404):
                broken.append(f"{method} {path} returned {first.status_code} and then {status} after lost write {at}")
    broken += wrong_logs(platform, space_id, is_exact=True) + wrong_limits(space_id, is_exact=True)
    broken += problems_afterwards(platform, worker, seeded(seed))
    return f"the responses to {lost} writes lost", broken
