"""Tests of exports of reactions to files for trainings."""

import json
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.clock import new_id, utc_now
from shared.dynamodb.table import Table
from shared.insights.store import SETTLED
from shared.resources import Resources
from tests.fixtures.aws import BUCKET
from tests.fixtures.clocks import MovableClock
from tests.fixtures.evaluations import add_connector
from tests.functional.insights.helpers import CLIENT, ActionMaker, decide
from tests.functional.insights.test_reactions import react

# All reactions of a test are settled then, because ids have the real time.
LATER = timedelta(minutes=10)
BEFORE = "before-call.dynamodb.TransactWriteItems"


def create_export(client: TestClient, connector: str, **fields: Any) -> Any:
    response = client.post("/insights/exports", json={"connector_id": connector, **fields})
    assert response.status_code == 201, response.text
    return response.json()


@pytest.mark.row("X-8")
def test_reactions_are_exported_to_a_file_for_the_next_training(
    client: TestClient, resources: Resources, table: Table, create_action: ActionMaker, clock: MovableClock
) -> None:
    clock.now += LATER
    space = client.headers["X-Space-Id"]
    connector = add_connector(table, space)
    offer, other = create_action("Gold card"), create_action("Loan")
    expected = []
    for number, reaction in enumerate(("accepted", "rejected", "ignored")):
        row = {**CLIENT, "customer_id": number}
        react(client, decide(client, row, actions=[offer]), reaction)
        expected.append({**row, "reaction_accepted": int(reaction == "accepted")})
    react(client, decide(client, "free text", actions=[offer]), "accepted")
    react(client, decide(client, {"age": 1}, actions=[other]), "accepted")
    # This insight has no reaction.
    decide(client, actions=[offer])

    export = create_export(client, connector, action_id=offer)
    assert (export["rows"], export["skipped"], export["has_more"]) == (3, 1, False)
    assert export["target"] == "reaction_accepted"

    def content(file: str) -> list[Any]:
        found = resources.s3.get_object(Bucket=BUCKET, Key=f"spaces/{space}/connectors/{connector}/{file}")
        return [json.loads(line) for line in found["Body"].read().decode().splitlines()]

    assert content(export["file"]) == expected
    assert client.get(f"/connectors/{connector}/files", params={"flat": True}).json() == [export["file"]]
    # A repeated export writes the same file. An export of all actions adds the id of the action to each row.
    assert create_export(client, connector, action_id=offer)["file"] == export["file"]
    everything = content(create_export(client, connector)["file"])
    assert len(everything) == 4
    assert everything[-1] == {"age": 1, "reaction_action_id": other, "reaction_accepted": 1}
    # The next export starts after the last exported reaction.
    react(client, decide(client, {"age": 2}, actions=[offer]), "accepted")
    rest = create_export(client, connector, action_id=offer, after=export["last"])
    assert content(rest["file"]) == [{"age": 2, "reaction_accepted": 1}]
    yesterday, future = utc_now() - timedelta(days=1), utc_now() + timedelta(hours=1)
    two = [create_export(client, connector, since=str(yesterday + timedelta(milliseconds=each))) for each in (0, 1)]
    assert [each["rows"] for each in two] == [5, 5]
    assert two[0]["file"] != two[1]["file"]
    none = create_export(client, connector, since=str(future))
    assert (none["file"], none["rows"], none["last"]) == (None, 0, None)


@pytest.mark.row("X-8")
def test_many_reactions_are_exported_to_several_files(
    client: TestClient,
    table: Table,
    create_action: ActionMaker,
    clock: MovableClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock.now += LATER
    monkeypatch.setattr("functions.insights.reactions.EXPORT_ROWS", 2)
    connector = add_connector(table, client.headers["X-Space-Id"])
    offer = create_action("Gold card")
    for number in range(5):
        react(client, decide(client, {"id": number}, actions=[offer]), "accepted")
    sizes, after, files = [], "", set()
    while True:
        export = create_export(client, connector, action_id=offer, after=after)
        sizes.append(export["rows"])
        files.add(export["file"])
        if not export["has_more"]:
            break
        after = export["last"]
    assert sizes == [2, 2, 1]
    assert len(files) == 3


@pytest.mark.row("X-8")
def test_an_invalid_export_is_refused(client: TestClient, other_client: TestClient, table: Table) -> None:
    connector = add_connector(table, client.headers["X-Space-Id"])
    for who, fields in (
        (client, {"connector_id": new_id()}),
        (client, {"connector_id": connector, "action_id": new_id()}),
        (client, {"connector_id": connector, "after": "garbage"}),
        (client, {"connector_id": connector, "since": "yesterday"}),
        (other_client, {"connector_id": connector}),
        (client, {}),
    ):
        assert who.post("/insights/exports", json=fields).status_code == 400


@pytest.mark.row("X-8", "EN-4")
def test_an_export_by_cursor_misses_no_reaction_whose_transaction_commits_late(
    client: TestClient, resources: Resources, table: Table, create_action: ActionMaker, clock: MovableClock
) -> None:
    """Other reactions are stored, and exported, between the id of a reaction and its transaction."""
    connector = add_connector(table, client.headers["X-Space-Id"])
    offer = create_action("Gold card")
    insights = [decide(client, {"id": number}, actions=[offer]) for number in range(2)]
    exports: list[Any] = []

    def overtake(**_: Any) -> None:
        resources.dynamodb.meta.events.unregister(BEFORE, overtake)
        react(client, insights[1], "accepted")
        # The latest moment at which an unfinished request may still run.
        clock.now = utc_now() + SETTLED - timedelta(seconds=10)
        exports.append(create_export(client, connector, action_id=offer))

    resources.dynamodb.meta.events.register(BEFORE, overtake)
    react(client, insights[0], "rejected")
    clock.now += LATER
    exports.append(create_export(client, connector, action_id=offer, after=exports[0]["last"] or ""))
    assert sum(export["rows"] for export in exports) == 2
    assert [export["has_more"] for export in exports] == [False, False]
    again = create_export(client, connector, action_id=offer, after=exports[1]["last"])
    assert (again["rows"], again["last"]) == (0, exports[1]["last"])


@pytest.mark.row("BD-6")
def test_an_export_comes_with_an_address_of_its_file(
    client: TestClient, table: Table, create_action: ActionMaker, clock: MovableClock
) -> None:
    clock.now += LATER
    connector, offer = add_connector(table, client.headers["X-Space-Id"]), create_action("Gold card")
    assert create_export(client, connector)["download"] is None
    react(client, decide(client, actions=[offer]), "accepted")

    export = create_export(client, connector)

    assert export["download"]["file"] == export["file"]
    assert f"/connectors/{connector}/{export['file']}?" in export["download"]["url"]
    assert "X-Amz-Signature" in export["download"]["url"]
