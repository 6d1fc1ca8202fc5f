"""Helpers of the tests of deletion."""

from typing import Any

from fastapi.testclient import TestClient

from shared.dynamodb.table import Table
from tests.fixtures.spaces import held_by_aws
from tests.fixtures.trainings import space_of

NAMES = ("carol", "dave", "erin")


def space_path(client: TestClient) -> str:
    return f"/spaces/{space_of(client)}"


def spaces_of(client: TestClient) -> list[str]:
    """Returns the ids of the user's spaces and checks that ``/me`` lists the same spaces."""
    page = client.get("/spaces").json()
    listed = [space["id"] for space in page["data"]]
    assert page["count"] == len(listed)
    assert [space["id"] for space in client.get("/me", headers={"X-Space-Id": ""}).json()["spaces"]] == listed
    return listed


def contents(client: TestClient) -> dict[str, Any]:
    """Returns all data of the space in AWS, except the item of the space."""
    space_id = space_of(client)
    return {key: item for key, item in held_by_aws(about=space_id).items() if f" space#{space_id} " not in key}


class InterruptedTable(Table):
    """Table that calls a function before the transaction with a given number."""

    def __init__(self, table: Table, number: int, interruption: Any) -> None:
        super().__init__(table._client, table.name)
        self._left = number
        self._interruption = interruption

    def transact(self, actions: Any) -> None:
        self._left -= 1
        if self._left < 0 and self._interruption:
            interruption, self._interruption = self._interruption, None
            interruption()
        super().transact(actions)
