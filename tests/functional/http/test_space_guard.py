"""Code that asks for another space's data by mistake gets none, and the client learns nothing."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.aws.space_guard import METRIC
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import Key
from shared.resources import Resources
from tests.fixtures.trainings import space_of
from tests.functional.conftest import same_caller

ACTION = {"name": "Theirs", "description": "", "priority": "low", "type": "offer"}


@pytest.mark.row("C-2")
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_route_that_mixes_spaces_up_is_a_500_and_reads_and_changes_nothing(
    method: str,
    client: TestClient,
    other_client: TestClient,
    resources: Resources,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    action = other_client.post("/actions", json=ACTION).json()
    foreign, key = space_of(other_client), Repository.key

    def mistaken(self: Repository[Any], space_id: str, entity_id: str) -> Key:
        return key(self, foreign if self.kind == "action" else space_id, entity_id)

    app = same_caller(client, resources).app
    mixed_up = TestClient(app, headers=dict(client.headers), raise_server_exceptions=False)
    with monkeypatch.context() as patch:
        patch.setattr(Repository, "key", mistaken)
        body = {"name": "Ours"} if method == "PUT" else None
        answer = mixed_up.request(method, f"/actions/{action['id']}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "Theirs" not in answer.text
    assert METRIC in capsys.readouterr().out
    assert other_client.get(f"/actions/{action['id']}").json() == action
