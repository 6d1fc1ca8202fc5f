"""Helpers of the tests of insights."""

from collections.abc import Callable
from typing import Any

from fastapi.testclient import TestClient

CLIENT = {"age": 40, "city": "Lyon", "active": True, "joined": "2021-05-01"}


GENERATED_TEXT = {
    "thinking": "Lyon is near the branch.",
    "insight": "She lives in Lyon.",
    "argument_thinking": "Keep it short.",
    "argument": "No fee for a year.",
    "best_time": "Tuesday morning",
    "timeliness": "this_week",
}


ActionMaker = Callable[..., str]


def decide(client: TestClient, given: Any = CLIENT, **fields: Any) -> Any:
    response = client.post("/insights", json={"client": given, **fields})
    assert response.status_code == 200, response.text
    return response.json()
