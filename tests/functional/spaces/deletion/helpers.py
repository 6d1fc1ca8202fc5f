"""Helpers of the tests of deletion."""

from typing import Any

from fastapi.testclient import TestClient

from shared.dynamodb.table import Table
from tests.fixtures.spaces import held_by_aws
from tests.fixtures.trainings import space_of

NAMES = ("carol", "dave", "erin")


def place(client: TestClient) -> str:
    return f"/spaces/{space_of(client)}"


def spaces_of(client: TestClient) -> list[str]:
    """Returns the ids of the user's spaces, which the count and ``/me`` agree with."""
    page = client.get("/spaces").json()
    listed = [space["id"] for space in page["data"]]
    assert page["count"] == len(listed)
    assert [space["id"] for space in client.get("/me", headers={"X-Space-Id": ""}).json()["spaces"]] == listed
    return listed


def contents(client: TestClient) -> dict[str, Any]:
    """Returns all that AWS holds of the space but for the space's own item."""
    space_id = space_of(client)
    return {key: item for key, item in held_by_aws(about=space_id).items() if f" space#{space_id} " not in key}


class InterruptedTable(Table):
    """Lets something else happen before the transaction of that number."""

    def __init__(self, table: Table, number: int, meanwhile: Any) -> None:
        super().__init__(table._client, table.name)
        self._left = number
        self._meanwhile = meanwhile

    def transact(self, actions: Any) -> None:
        self._left -= 1
        if self._left < 0 and self._meanwhile:
            meanwhile, self._meanwhile = self._meanwhile, None
            meanwhile()
        super().transact(actions)
