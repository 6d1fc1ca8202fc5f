"""Tests of the history of a customer and of its erasure, after which nothing holds the customer."""

import json
from datetime import timedelta
from typing import Any

import boto3
import pytest
from fastapi.testclient import TestClient

from shared.clock import utc_now
from shared.dynamodb.codec import decode_item
from shared.dynamodb.table import Table
from shared.resources import Resources
from tests.fixtures.aws import BUCKET, LOGS_TABLE, TABLE
from tests.fixtures.clocks import MovableClock
from tests.fixtures.evaluations import add_connector
from tests.fixtures.upstream import FakeUpstream, connected, schema_name
from tests.functional.clients.test_contacts import ago, report
from tests.functional.insights.helpers import GENERATED_TEXT, ActionMaker, decide
from tests.functional.insights.test_reactions import react

KEY = "K-4711-XYZ"
CUSTOMER = {"customer_id": KEY, "name": "Zebulon", "city": "Ouagadougou", "notes": "q" * 5000}
SMALL = {name: value for name, value in CUSTOMER.items() if name != "notes"}
TRACES = (KEY.lower(), "zebulon", "ouagadougou", "1971-03-04", "qqqqqqqq", "a word about you")
ARGUMENT = {"thinking": "It fits.", "argument": "Zebulon, a word about you: no fee for a year."}


def write_text(body: Any) -> str:
    about = {"insight": "For Zebulon."} if "zebulon" in json.dumps(body).lower() else {}
    return json.dumps(ARGUMENT if schema_name(body) == "argument" else {**GENERATED_TEXT, **about})


def images(name: str = TABLE) -> dict[tuple[str, str], Any]:
    dynamodb: Any = boto3.client("dynamodb")
    pages = dynamodb.get_paginator("scan").paginate(TableName=name)
    items = [decode_item(item) for page in pages for item in page["Items"]]
    return {(item["PK"], item["SK"]): item for item in items}


def audit(resources: Resources, before: dict[Any, Any], after: dict[Any, Any]) -> None:
    """Delivers the changes of items to the audit log, as the stream does."""
    changed = [(before.get(key), after.get(key)) for key in {**before, **after} if before.get(key) != after.get(key)]
    resources.audit_logs.record(changed)


def everything() -> str:
    """Returns all items of both tables, and all versions of all objects, as text."""
    s3 = boto3.client("s3")
    texts = [
        json.dumps(list(images(name).values()), default=str) + str(list(images(name))) for name in (TABLE, LOGS_TABLE)
    ]
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=BUCKET):
        for found in page.get("Versions", []):
            body = s3.get_object(Bucket=BUCKET, Key=found["Key"], VersionId=found["VersionId"])["Body"].read()
            texts += [found["Key"], body.decode()]
    return "\n".join(texts).lower()


def traces(text: str, digests: tuple[str, ...] = ()) -> list[str]:
    return [trace for trace in (*TRACES, *digests) if trace in text]


def create_argument(client: TestClient, customer: dict[str, Any], **fields: Any) -> str:
    facts = {"client": customer, "insight_spec": {"insight": "x"}, "product": {"name": "Card"}, "model": "small"}
    response = client.post("/arguments", json={**facts, **fields}, headers={"Idempotency-Key": str(len(customer))})
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


def fill(client: TestClient, connector: str, offer: str, clock: MovableClock) -> Any:
    """Makes data of the customer in every place, and an export. Returns an insight of the customer."""
    person = {"name": "Zebulon", "birthdate": "1971-03-04", "notes": "", "data": {"customerId": KEY.lower()}}
    headers = {"Idempotency-Key": "persona"}
    persona = client.post("/personas", json=person, headers=headers).json()["id"]
    body = {"client": CUSTOMER, "reserve": True}
    insight = client.post("/insights", json=body, headers={"Idempotency-Key": "insight"}).json()
    react(client, insight, "rejected", comment="Zebulon said no")
    others = [decide(client, given, actions=[offer]) for given in (persona, SMALL)]
    report(client, "sent", client_key=KEY, action_id=offer, occurred_at=ago(clock, days=40))
    argument = create_argument(client, SMALL)
    create_argument(client, {"first": "Zebulon"}, insight_id=others[1]["id"])
    client.post(f"/arguments/{argument}/comments", json={"text": "Ask Zebulon"}).raise_for_status()
    client.put(f"/arguments/{argument}", json={"argument": "Zebulon, call us."}).raise_for_status()
    other = decide(client, {"customer_id": 8, "city": "Rome"}, actions=[offer])
    react(client, other, "accepted")
    clock.now += timedelta(minutes=10)
    for action in ({}, {"action_id": offer}):
        exported = client.post("/insights/exports", json={"connector_id": connector, **action})
        assert exported.status_code == 201
        assert exported.json()["rows"] == 2
    return insight


@pytest.mark.row("LG-5")
def test_nothing_holds_a_customer_after_the_erasure(
    client: TestClient,
    resources: Resources,
    table: Table,
    clock: MovableClock,
    create_action: ActionMaker,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared.dynamodb.large_values.INLINE_BYTES", 1000)
    boto3.client("s3").put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    space, clock.now = client.headers["X-Space-Id"], utc_now()
    connector = add_connector(table, space)
    offer = create_action("Card", channel="sms")
    client.put("/insights/policy", json={"suppression_days": {"rejected": 0}}).raise_for_status()
    with connected(client, FakeUpstream(script=write_text)):
        client.put("/clusters", json={"store_content": True}).raise_for_status()
        before = images()
        insight = fill(client, connector, offer, clock)
    filled = images()
    audit(resources, before, filled)
    digests = tuple({key.split("#")[2] for key, _ in filled if key.startswith("insight_contact#")})
    (other,) = (
        item["client_key"] for item in filled.values() if item["PK"] == f"insight#{space}" and "Rome" in str(item)
    )
    assert traces(everything()) == list(TRACES)
    capsys.readouterr()

    erased = client.delete(f"/clients/{KEY}")

    assert erased.status_code == 200, erased.text
    counts = {
        name: erased.json()[name] for name in ("arguments", "contacts", "exports", "insights", "personas", "reactions")
    }
    assert counts == {"arguments": 2, "contacts": 2, "exports": 2, "insights": 3, "personas": 1, "reactions": 1}
    assert erased.json()["logged_texts"] == 5
    audit(resources, filled, images())
    assert traces(everything(), tuple(digest for digest in digests if digest != other)) == []
    assert traces(erased.text.lower() + "".join(capsys.readouterr()).lower(), digests) == []
    # The lineage has its ids, and the audit log has a row that names nobody.
    lineage = client.get(f"/insights/{insight['id']}/lineage").json()
    assert (lineage["insight_id"], lineage["action_id"]) == (insight["id"], offer)
    gone = client.get(f"/insights/{insight['id']}")
    assert (gone.status_code, "erased" in gone.json()["error"]) == (404, True)
    assert client.post(f"/insights/{insight['id']}/reactions", json={"reaction": "accepted"}).status_code == 404
    (row,) = client.get("/audit-logs", params={"entity": "client_erasure"}).json()["data"]
    assert row["actor"] == client.get("/me").json()["id"]
    assert row["after"]["insights"] == 3
    # Data of others stays, and the customer is unknown.
    files = boto3.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=f"spaces/{space}/connectors/")["Contents"]
    assert [file["Size"] < 200 for file in files] == [True, True]
    assert "rome" in everything()
    assert client.get("/clients/8").json()["data"]
    for verb in ("GET", "DELETE"):
        assert client.request(verb, f"/clients/{KEY}").status_code == 404


@pytest.mark.row("LG-5")
def test_a_history_lists_what_is_stored_about_a_customer_newest_first(
    client: TestClient, other_client: TestClient, clock: MovableClock, create_action: ActionMaker
) -> None:
    offer = create_action("Card", channel="sms")
    insight = decide(client, {"customer_id": "A/7"}, actions=[offer])
    react(client, insight, "ignored", occurred_at=ago(clock, days=1))
    for days in (3, 2, 2):
        fields = {"client_key": "a/7", "action_id": offer, "occurred_at": ago(clock, days=days)}
        report(client, "sent", contact_id=f"{days}-{len(fields)}-{id(fields)}", **fields)
    history = client.get("/clients/A/7").json()
    assert history["client_key"] == "a/7"
    assert [each["kind"] for each in history["data"]] == ["insight", "reaction", *["contact"] * 4]
    assert history["data"][0]["id"] == insight["id"]
    pages: list[Any] = []
    before: dict[str, str] = {}
    while True:
        page = client.get("/clients/A/7", params={"limit": 1, **before}).json()
        pages.append(page["data"])
        if not page["has_more"]:
            break
        before = {"before": page["data"][-1]["occurred_at"]}
    assert [len(page) for page in pages] == [1, 2, 2, 1]
    assert [event for page in pages for event in page] == history["data"]
    assert other_client.get("/clients/A/7").status_code == 404
    assert client.get("/clients/unknown").status_code == 404


@pytest.mark.row("LG-5")
def test_an_erasure_that_ends_early_goes_on_when_it_is_repeated(
    client: TestClient, clock: MovableClock, create_action: ActionMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_action("Card")
    for _ in range(2):
        decide(client, {"customer_id": 7})
    with monkeypatch.context() as patched:
        patched.setattr("functions.clients.erasure.SECONDS", -1.0)
        assert client.delete("/clients/7").status_code == 503
    assert client.delete("/clients/7").json()["insights"] == 2
    # Who was erased may come back, and starts anew.
    decide(client, {"customer_id": 7})
    assert len(client.get("/clients/7").json()["data"]) == 1


@pytest.mark.row("LG-5")
def test_an_export_with_rows_of_the_customer_only_disappears_with_all_its_versions(
    client: TestClient, table: Table, clock: MovableClock, create_action: ActionMaker
) -> None:
    s3, space = boto3.client("s3"), client.headers["X-Space-Id"]
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    connector, folder = add_connector(table, space), f"spaces/{space}/connectors/"
    s3.put_object(Bucket=BUCKET, Key=f"{folder}{connector}/reactions/mine.jsonl", Body=b'[7]\n{"no JSON\n')
    create_action("Card")
    client.put("/insights/policy", json={"client_key": {"fields": ["iban"]}}).raise_for_status()
    react(client, decide(client, {"IBAN": "DE 7", "age": 50}), "accepted")
    clock.now += timedelta(minutes=10)
    for _ in range(2):
        assert client.post("/insights/exports", json={"connector_id": connector}).json()["rows"] == 1
    assert client.delete("/clients/de 7").json()["exports"] == 1
    left = s3.list_object_versions(Bucket=BUCKET, Prefix=folder)
    assert [each["Key"].rpartition("/")[2] for each in left["Versions"]] == ["mine.jsonl"]
    assert "DeleteMarkers" not in left
