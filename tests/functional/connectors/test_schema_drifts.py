"""Schema drifts and personal data: what scans find in columns, version by version, and the consequences."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.workflows.connector_scan.finish_scan import finish_scan
from functions.workflows.connector_scan.scan_file import scan_file
from shared.dynamodb.table import Table
from shared.errors import JobFailedError
from shared.models.connector_training import Split
from shared.resources import Resources
from tests.fixtures.connectors import Lab

BEFORE = b"id,income,city,bought\n" + b"".join(b"%d,%d,Rome,%d\n" % (n, n * 10, n % 2) for n in range(30))
WITHOUT_INCOME = b"id,city,bought\n" + b"".join(b"%d,Rome,%d\n" % (n, n % 2) for n in range(30))
# One more column, and money with cents.
HARMLESS = b"id,income,city,bought,age\n" + b"".join(b"%d,%d.5,Rome,%d,40\n" % (n, n, n % 2) for n in range(30))


@pytest.fixture
def lab(client: TestClient, resources: Resources) -> Lab:
    return Lab(client, resources)


def drifts(lab: Lab, connector_id: str) -> list[dict[str, Any]]:
    page = lab.client.get(f"/connectors/{connector_id}/drifts")
    assert page.status_code == 200, page.text
    assert page.json()["count"] == len(page.json()["data"])
    found: list[dict[str, Any]] = page.json()["data"]
    return found


def upload(lab: Lab, connector_id: str, *contents: bytes) -> None:
    for content in contents:
        lab.deliver(lab.put(connector_id, "a.csv", content))
        lab.work(connector_id)


def changes(drift: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(change["column"], change["kind"], change["before"], change["after"]) for change in drift["changes"]]


@pytest.mark.row("X-12")
def test_a_file_that_comes_again_with_other_columns_is_a_drift_once(lab: Lab) -> None:
    connector_id = lab.connector()
    event = lab.put(connector_id, "a.csv", BEFORE)
    lab.deliver(event)
    lab.work(connector_id)
    assert drifts(lab, connector_id) == [], "the first version of a file is no change"
    changed = lab.put(connector_id, "a.csv", WITHOUT_INCOME.replace(b"Rome", b"").replace(b"id,", b"number,"))
    lab.deliver(changed, changed)
    listed, items = lab.begin(connector_id)
    for item in [*items, *items]:  # a step that is tried again
        scan_file(lab.resources, {**listed, "file": item})
    finish_scan(lab.resources, listed)
    lab.deliver(changed, event)
    lab.scan(connector_id, files=["a.csv"])
    lab.work(connector_id)
    (drift,) = drifts(lab, connector_id)
    assert changes(drift) == [
        ("id", "removed", "int", None),
        ("income", "removed", "int", None),
        ("number", "added", None, "int"),
        ("city", "nulls", 0.0, 1.0),
    ]
    assert (drift["file"], drift["is_breaking"], drift["policy"]) == ("a.csv", True, "record")
    assert drift["scan_id"] == listed["scan_id"]


@pytest.mark.row("X-12")
def test_added_columns_and_widened_types_are_reported_and_train(lab: Lab) -> None:
    connector_id = lab.connector(drift_policy="block")
    upload(lab, connector_id, BEFORE, HARMLESS)
    (drift,) = drifts(lab, connector_id)
    assert changes(drift) == [("age", "added", None, "int"), ("income", "widened", "int", "float")]
    assert drift["is_breaking"] is False
    assert [file.name for file in lab.dataset(connector_id, "bought").files] == ["a.csv"]


@pytest.mark.row("X-12")
def test_a_column_that_vanished_blocks_trainings_until_somebody_has_seen_it(lab: Lab) -> None:
    connector_id = lab.connector(drift_policy="block")
    upload(lab, connector_id, BEFORE, WITHOUT_INCOME)
    with pytest.raises(JobFailedError, match=r"in 'a\.csv' 'income' vanished\. Upload .* acknowledge"):
        lab.dataset(connector_id, "bought")
    (drift,) = drifts(lab, connector_id)
    place = f"/connectors/{connector_id}/drifts/{drift['id']}/acknowledge"
    seen = lab.client.post(place)
    assert seen.status_code == 200, seen.text
    assert (seen.json()["acknowledged_by"], bool(seen.json()["acknowledged_at"])) == (
        lab.client.get("/me").json()["id"],
        True,
    )
    assert lab.client.post(place).json() == seen.json(), "seen once"
    assert lab.dataset(connector_id, "bought")

    upload(lab, connector_id, WITHOUT_INCOME.replace(b"Rome", b"7"))
    lab.client.post(place)
    with pytest.raises(JobFailedError, match="'city' went from string to int"):
        lab.dataset(connector_id, "bought")
    lab.client.put(f"/connectors/{connector_id}", json={"drift_policy": "record"})
    assert lab.dataset(connector_id, "bought"), "the policy can be changed at any time"


@pytest.mark.row("X-12")
@pytest.mark.parametrize("mended", [BEFORE, HARMLESS, BEFORE.replace(b"Rome", b"Oslo")])
def test_a_file_that_is_put_back_as_it_was_lifts_the_drift_block(lab: Lab, mended: bytes) -> None:
    connector_id = lab.connector(drift_policy="block")
    retyped = BEFORE.replace(b"Rome", b"7")
    upload(lab, connector_id, BEFORE, WITHOUT_INCOME, retyped)
    with pytest.raises(JobFailedError, match="'city' went from string to int"):
        lab.dataset(connector_id, "bought")
    upload(lab, connector_id, mended)
    assert lab.dataset(connector_id, "bought")
    upload(lab, connector_id, WITHOUT_INCOME)
    with pytest.raises(JobFailedError, match="'income' vanished"):
        lab.dataset(connector_id, "bought")


@pytest.mark.row("X-12")
def test_a_file_that_is_only_partly_as_it_was_stays_blocked(lab: Lab) -> None:
    connector_id = lab.connector(drift_policy="block")
    upload(lab, connector_id, BEFORE, WITHOUT_INCOME, WITHOUT_INCOME.replace(b"city", b"town"))
    upload(lab, connector_id, WITHOUT_INCOME)
    with pytest.raises(JobFailedError, match="drifted"):
        lab.dataset(connector_id, "bought")


@pytest.mark.row("X-12")
def test_read_options_that_mend_a_file_lift_the_drift_block(lab: Lab) -> None:
    connector_id = lab.connector(drift_policy="block")
    upload(lab, connector_id, BEFORE)
    place = f"/connectors/{connector_id}/catalog/a.csv"
    assert lab.client.patch(place, json={"read_options": {"delimiter": ";"}}).status_code == 200
    lab.deliver(lab.put(connector_id, "a.csv", HARMLESS))
    lab.work(connector_id)
    with pytest.raises(JobFailedError, match="drifted"):
        lab.dataset(connector_id)
    assert lab.client.patch(place, json={"read_options": None}).status_code == 200
    lab.work(connector_id)
    assert lab.dataset(connector_id, "bought")


@pytest.mark.row("X-12")
def test_a_missing_target_fails_early_under_every_policy(lab: Lab) -> None:
    connector_id = lab.connector()
    upload(lab, connector_id, BEFORE, WITHOUT_INCOME)
    assert lab.dataset(connector_id, "bought"), "a drift is an event, not a broken training"
    with pytest.raises(JobFailedError, match="The target column 'income' is not in"):
        lab.dataset(connector_id, "income")


@pytest.mark.row("X-12")
def test_a_column_that_the_split_goes_by_and_that_vanished_fails_early(lab: Lab) -> None:
    connector_id = lab.connector()
    split = Split(kind="group", column="income")
    upload(lab, connector_id, BEFORE)
    assert lab.dataset(connector_id, "bought", split=split)
    upload(lab, connector_id, WITHOUT_INCOME)
    with pytest.raises(JobFailedError, match="The column 'income' of the split is in no file"):
        lab.dataset(connector_id, "bought", split=split)


@pytest.mark.row("X-12")
def test_nothing_is_recorded_where_drift_is_ignored_and_what_follows_counts_from_then(lab: Lab) -> None:
    connector_id = lab.connector(drift_policy="ignore")
    upload(lab, connector_id, BEFORE, WITHOUT_INCOME)
    assert drifts(lab, connector_id) == []
    lab.client.put(f"/connectors/{connector_id}", json={"drift_policy": "record"})
    upload(lab, connector_id, BEFORE)
    assert [changes(drift) for drift in drifts(lab, connector_id)] == [[("income", "added", None, "int")]]


def test_a_drift_of_very_many_columns_shows_some_of_them(lab: Lab) -> None:
    connector_id = lab.connector()
    names = [f"a column with quite a long name, the number {number}" for number in range(2_000)]
    wide = [("|".join(header) + "\n" + "|".join("1" * 2_000) + "\n").encode() for header in (names, names[::-1])]
    upload(lab, connector_id, wide[0], wide[1].replace(b"a column", b"the column"))
    (drift,) = drifts(lab, connector_id)
    assert (len(drift["changes"]), drift["more_changes"]) == (100, 3_900)
    assert {change["kind"] for change in drift["changes"]} == {"removed"}


def test_a_drift_is_an_entity_with_a_stream_record(lab: Lab, table: Table) -> None:
    connector_id = lab.connector()
    upload(lab, connector_id, BEFORE, WITHOUT_INCOME)
    (drift,) = drifts(lab, connector_id)
    partition = f"schema_drift#{lab.space_id}#{connector_id}"
    (item,) = table.query(partition)
    lab.resources.audit_logs.record([(None, item)])
    (noted,) = lab.client.get("/audit-logs", params={"entity": "schema_drift"}).json()["data"]
    assert (noted["action"], noted["entity_id"]) == ("created", drift["id"])
    lab.client.delete(f"/connectors/{connector_id}")
    for name in ("schema", "drifted"):
        assert list(table.query(f"catalog#{lab.space_id}#{connector_id}#{name}")) == []
    assert list(table.query(partition)) == []
    assert list(table.query(f"{partition}#count")) == []


def test_a_scan_of_a_connector_deleted_during_it_leaves_no_drift(lab: Lab, table: Table) -> None:
    connector_id = lab.connector()
    upload(lab, connector_id, BEFORE)
    scans = lab.resources.connector_scans
    connector = scans.scans.connectors.get(lab.space_id, connector_id)
    entry = scans.catalog.entries(lab.space_id, connector_id)["a.csv"]
    lab.client.delete(f"/connectors/{connector_id}")
    assert scans.drifts.observe(lab.space_id, connector, entry.model_copy(update={"columns": []})) is None
    assert list(table.query(f"catalog#{lab.space_id}#{connector_id}#schema")) == []


def test_drifts_of_another_space_or_unknown_ones_are_not_found(lab: Lab, other_client: TestClient) -> None:
    connector_id = lab.connector()
    upload(lab, connector_id, BEFORE, WITHOUT_INCOME)
    (drift,) = drifts(lab, connector_id)
    for client, path in (
        (other_client, f"{connector_id}/drifts/{drift['id']}/acknowledge"),
        (lab.client, f"{connector_id}/drifts/unknown/acknowledge"),
        (lab.client, f"{lab.connector()}/drifts/{drift['id']}/acknowledge"),
    ):
        answer = client.post(f"/connectors/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert other_client.get(f"/connectors/{connector_id}/drifts").status_code == 404
    assert drifts(lab, connector_id)[0]["acknowledged_at"] is None


PEOPLE = "customer_no,email,income,segment,bought\n" + "".join(
    f"{number},person.{number}@example.com,{number * 1.5},{'gold' if number % 3 else 'basic'},{number % 2}\n"
    for number in range(1, 41)
)


@pytest.mark.row("X-12")
def test_columns_that_identify_persons_are_flagged_hidden_and_left_out_of_trainings(lab: Lab) -> None:
    connector_id = lab.connector()
    upload(lab, connector_id, PEOPLE.encode())
    row = lab.catalog(connector_id)["a.csv"]
    columns = {column["name"]: column for column in row["columns"]}
    found = columns["email"]["personal_data"]
    assert (found["kind"], found["is_direct"], "e-mail" in found["reason"]) == ("email", True, True)
    assert [name for name, column in columns.items() if column["personal_data"]] == ["email"]
    assert "example.com" not in str(row)
    assert columns["segment"]["top_values"] == [{"value": "gold", "rows": 27}, {"value": "basic", "rows": 13}]
    assert columns["income"]["quantiles"] == {"0.05": 4.5, "0.25": 16.5, "0.5": 31.5, "0.75": 45.0, "0.95": 57.0}
    assert row["sampled_rows"] == 40
    assert lab.dataset(connector_id, "bought").identifying_columns == ["email"]

    place = f"/connectors/{connector_id}"
    assert lab.client.put(place, json={"personal_data": {"email": False, "customer_no": True}}).status_code == 200
    columns = {column["name"]: column for column in lab.catalog(connector_id)["a.csv"]["columns"]}
    assert columns["email"]["personal_data"] is None
    stated = columns["customer_no"]
    assert (stated["personal_data"]["kind"], stated["min"], stated["quantiles"]) == ("stated", None, None)
    assert lab.dataset(connector_id, "bought").identifying_columns == ["customer_no"]
    refused = lab.client.put(place, json={"personal_data": {"email": "perhaps"}})
    assert refused.status_code == 400
