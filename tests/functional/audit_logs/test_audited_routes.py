"""Tests that every route that writes an entity leaves a row in the audit log."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.connectors.catalog import Seen
from shared.models.api_key import KeyToken
from shared.models.catalog import CatalogEntry, CatalogStatus
from shared.resources import Resources
from tests.fixtures.audit import Stream, deliver
from tests.fixtures.connectors import add_drift
from tests.fixtures.evaluations import add_checkpoint
from tests.fixtures.operations import operations
from tests.fixtures.spaces import ACCESS_KEYS, held_by_aws
from tests.fixtures.trainings import space_of, training_request
from tests.fixtures.upstream import Body, FakeUpstream, argument_about, schema_name, served
from tests.functional.conftest import ClientMaker

TOKEN = "a-token-of-the-cluster"


def write_completion(body: Body) -> str:
    return argument_about(body) if schema_name(body) == "argument" else "Hello there."


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with served(FakeUpstream(script=write_completion)) as upstream:
        yield upstream


@dataclass
class RouteAudit:
    """Client that checks the rows which each of its requests adds to the audit log."""

    client: TestClient
    resources: Resources
    stream: Stream
    audited: set[str] = field(default_factory=set)

    def write(
        self,
        route: str,
        entity: str,
        action: str,
        *,
        by: TestClient | None = None,
        also: tuple[str, ...] = (),
        path: dict[str, str] | None = None,
        **request: Any,
    ) -> Any:
        """Sends a request, checks the rows that it adds and returns its response.

        Each row names the caller, and either this entity or an entity in ``also``.
        """
        verb, template = route.split(" ", 1)
        address = template
        for placeholder, value in (path or {}).items():
            address = address.replace(f"{{{placeholder}}}", value)
        client = by or self.client
        actor = client.get("/me", headers={"X-Space-Id": ""}).json()["id"]
        self.new_rows()
        response = client.request(verb, address, **request)
        assert response.status_code < 300, (route, response.text)
        rows = self.new_rows()
        assert {row["actor"] for row in rows} <= {actor}, route
        assert (entity, action) in {(row["entity"], row["action"]) for row in rows}, (route, rows)
        assert {row["entity"] for row in rows} <= {entity, *also}, (route, rows)
        for row in rows:
            self._check(row)
        self.audited.add(route)
        return response.json() if response.content else None

    def new_rows(self) -> list[dict[str, Any]]:
        """Delivers the pending stream records and returns the rows that were added."""
        deliver(self.resources, self.stream.read())
        return [_plain(each) for each in self.stream.read() if _is_row(each)]

    @staticmethod
    def _check(row: dict[str, Any]) -> None:
        before, after = json.loads(row["before"]), json.loads(row["after"])
        if row["action"] == "created":
            assert before == {}, row
            assert after, row
        elif row["action"] == "deleted":
            assert before or after.get("deleted_at"), row
        else:
            assert before.keys() | after.keys(), row
            assert before != after, row


def _is_row(record: dict[str, Any]) -> bool:
    """Returns whether the record is about the main item of a row. The filters read copies of each row."""
    partition = record["dynamodb"]["Keys"]["PK"]["S"]
    return str(partition).startswith("audit#") and partition.count("#") == 1


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    return {name: next(iter(value.values())) for name, value in record["dynamodb"]["NewImage"].items()}


# These requests write no entity: they read, write a file, return an upload form, or send messages again. Rotating a
# secret leaves no row because the log must not contain secrets.
ROUTES_WITHOUT_ROWS = {
    # The ledger of a customer is a log itself, which an erasure removes.
    "POST /contacts",
    "POST /checkpoints/{id}/predictions",
    "POST /connectors/{id}/downloads",
    "POST /connectors/{id}/preview",
    "POST /insights/exports",
    "POST /personas/completions",
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "POST /v1/embeddings",
    "POST /v1/responses",
    "POST /webhook-endpoints/{id}/deliveries/replay",
    "POST /webhook-endpoints/{id}/deliveries/{delivery_id}/replay",
    "POST /webhook-endpoints/{id}/rotate-secret",
    "POST /webhook-endpoints/{id}/test",
    # Writes if the address was not verified before.
    "POST /webhook-endpoints/{id}/verify",
    # Runs need a model and files: the tests of runs check their rows.
    *(
        f"POST /{kind}{verb}"
        for kind in ("predictions", "decision-runs")
        for verb in ("", "/{id}/stop", "/{id}/restart")
    ),
    "POST /decision-runs/{id}/cancel",
    # Only a training that has not ended can be stopped: the tests of stopped trainings check its row.
    "POST /trainings/{id}/stop",
}


@pytest.mark.row("X-14")
def test_every_route_that_writes_leaves_a_row_with_its_actor_and_the_values_before_and_after(
    client: TestClient, resources: Resources, sign_in: ClientMaker, upstream: FakeUpstream, stream: Stream
) -> None:
    audit, table, space = RouteAudit(client, resources, stream), resources.table, space_of(client)
    write = audit.write

    def update(route: str, entity: str, also: tuple[str, ...] = (), **changes: tuple[Any, Any]) -> Callable[..., None]:
        """Returns a function that sends the update with both PUT and PATCH, each with its own value."""

        def run(path: dict[str, str] | None = None, json: dict[str, Any] | None = None) -> None:
            for verb, position in (("PUT", 0), ("PATCH", 1)):
                body = {**(json or {}), **{key: values[position] for key, values in changes.items()}}
                write(f"{verb} {route}", entity, "updated", also=also, path=path, json=body)

        return run

    named = {"name": "First", "description": ""}
    group = write("POST /action-groups", "action_group", "created", json=named)["id"]
    update("/action-groups/{id}", "action_group", name=("a", "b"))({"id": group})
    offer = {**named, "priority": "high", "type": "offer", "status": "active"}
    action = write("POST /actions", "action", "created", json=offer)["id"]
    update("/actions/{id}", "action", name=("a", "b"))({"id": action})

    cluster = {"ingress_url": upstream.url, "manager_url": upstream.url, "token": TOKEN}
    write("POST /clusters", "cluster", "created", json=cluster)
    update("/clusters", "cluster", token=(f"{TOKEN}-2", f"{TOKEN}-3"))()

    facts = {"client": {"name": "Ada"}, "insight_spec": {"insight": "x"}, "product": {"name": "y"}, "model": "small"}
    insight = {"id": write("POST /insights", "insight", "created", json={"client": "Likes to travel"})["id"]}
    reaction = {"reaction": "accepted"}
    write("POST /insights/{id}/reactions", "insight", "updated", path=insight, json=reaction)
    for verb, action_name, days in (("PUT", "created", 3), ("PATCH", "updated", 4)):
        policy = {"suppression_days": {"rejected": days}}
        write(f"{verb} /insights/policy", "insight_policy", action_name, json=policy)
    for action_name, share in (("created", 100), ("updated", 100.0)):
        arms = {"arms": [{"name": action_name, "percentage": share}]}
        write("PUT /insights/experiments", "insight_experiment", action_name, json=arms)
    client.post("/contacts", json={"client_key": "C-1", "status": "sent"}).raise_for_status()
    write("DELETE /clients/{key:path}", "client_erasure", "created", path={"key:path": "C-1"})
    argument = {"id": write("POST /arguments", "argument", "created", json=facts)["id"]}
    me = {"user_id": client.get("/me").json()["id"]}
    write("POST /arguments/{id}/assign", "argument", "updated", path=argument, json=me)
    write("POST /arguments/queue/next", "argument", "updated")
    write("POST /arguments/{id}/release", "argument", "updated", path=argument)
    write("POST /arguments/{id}/comments", "argument_comment", "created", path=argument, json={"text": "Good."})
    update("/arguments/{id}", "argument", argument=("One.", "Two."))(argument)
    write("DELETE /arguments/{id}", "argument", "deleted", path=argument)

    connector = {"id": write("POST /connectors", "connector", "created", json={"name": "a", "type": "aws-s3"})["id"]}
    keyed = {"name": "b", "type": "aws-s3", "s3": ACCESS_KEYS}
    write("POST /connectors", "connector", "created", json=keyed)
    write("POST /connectors/{id}/scan", "scan", "created", path=connector, json={})
    update("/connectors/{id}", "connector", name=("b", "c"))(connector)
    drift = {**connector, "drift_id": add_drift(resources, space, connector["id"])}
    write("POST /connectors/{id}/drifts/{drift_id}/acknowledge", "schema_drift", "updated", path=drift)
    stated = {"files": ["a.csv"], "read_options": {"a.csv": {"header": True}}}
    write("POST /connectors/{id}/uploads", "catalog", "created", path=connector, json=stated)
    found = CatalogEntry(file="a.csv", status=CatalogStatus.SCANNED)
    resources.catalog.record_result(space, connector["id"], found, Seen())
    file = {**connector, "file:path": "a.csv"}
    delimiters = ({"delimiter": ";"}, {"delimiter": "|"})
    update("/connectors/{id}/catalog/{file:path}", "catalog", read_options=delimiters)(file)
    write("DELETE /connectors/{id}/files/{file:path}", "catalog", "deleted", path=file)
    data_model = {"id": write("POST /data-models", "data_model", "created", json=named)["id"]}
    update("/data-models/{id}", "data_model", name=("a", "b"))(data_model)

    body = training_request(client, table)
    training = {"id": write("POST /trainings", "training", "created", json=body)["id"]}
    update("/trainings/{id}", "training", name=("a", "b"))(training)
    connectors = body["connectors"]
    benchmark_body = {**named, "task": "binary_classification", "metrics": ["f1"], "connectors": connectors}
    benchmark = {"id": write("POST /benchmarks", "benchmark", "created", json=benchmark_body)["id"]}
    update("/benchmarks/{id}", "benchmark", name=("a", "b"))(benchmark)
    checkpoint = add_checkpoint(table, space).id
    measured = {"benchmark_id": benchmark["id"], "checkpoint_id": checkpoint, "gpu_count": 0}
    write("POST /evaluations", "evaluation", "created", json=measured)
    alias = {"alias": "champion"}
    promote = {"checkpoint_id": checkpoint}
    gate: dict[str, Any] = {"required_benchmark_ids": []}
    write("PUT /checkpoints/aliases/{alias}/gate", "checkpoint_gate", "created", path=alias, json=gate)
    write("PUT /checkpoints/aliases/{alias}", "checkpoint_alias", "created", path=alias, json=promote)
    write("DELETE /checkpoints/aliases/{alias}", "checkpoint_alias", "deleted", path=alias)

    expert = {"id": write("POST /experts", "expert", "created", json=named)["id"]}
    update("/experts/{id}", "expert", name=("a", "b"))(expert)
    hello = {"messages": [{"role": "user", "content": "Hello"}]}
    chat = {"id": write("POST /chats", "chat", "created", json=hello)["id"]}
    update("/chats/{id}", "chat", name=("a", "b"))(chat)

    ada = {"name": "Ada", "birthdate": "1815-12-10", "notes": ""}
    persona = {"id": write("POST /personas", "persona", "created", json=ada)["id"]}
    update("/personas/{id}", "persona", notes=("a", "b"))(persona)
    rows = b"name,birthdate,notes\nAda,1815-12-10,again\nMary,1780-12-26,new\n"
    files = [("files", ("people.csv", rows))]
    upload = write("POST /personas/upload", "persona_upload", "created", files=files)
    write(
        "POST /personas/upload/{upload_token}/confirm",
        "persona",
        "created",
        also=("persona_upload",),
        path={"upload_token": upload["upload_token"]},
        json={"conflict_resolution": "overwrite"},
    )
    requested = write("POST /personas/uploads", "persona_upload", "created", json={"files": ["more.csv"]})
    resources.s3.put_object(
        Bucket=resources.settings.bucket_name,
        Key=requested["uploads"][0]["fields"]["key"],
        Body=rows.replace(b"Mary", b"May"),
    )
    write(
        "POST /personas/uploads/{upload_token}/process",
        "persona_upload",
        "updated",
        path={"upload_token": requested["upload_token"]},
    )

    key = write("POST /api-keys", "api_key", "created", json={"name": "Batch", "scopes": ["read"]})
    update("/api-keys/{id}", "api_key", name=("a", "b"))({"id": key["id"]})
    write("DELETE /api-keys/{id}", "api_key", "deleted", path={"id": key["id"]})
    other_key = client.post("/api-keys", json={"name": "Batch", "scopes": ["read"]}).json()["id"]
    write("DELETE /spaces/{id}/api-keys/{key_id}", "api_key", "deleted", path={"id": space, "key_id": other_key})

    update("/me", "user", first_name=("a", "b"))()
    bob = sign_in("bob", space=space)
    bob.get("/me", headers={"X-Space-Id": ""})
    space_path = {"id": space}
    update("/spaces/{id}", "space", name=("a", "b"), accepted_licenses=(["CC-BY-NC-4.0"], []))(space_path)
    write("PUT /spaces/{id}/limits", "space", "updated", path=space_path, json={"space": {"tokens_per_day": 10**6}})
    invited = {"emails": ["bob@example.com", "carol@example.com"], "roles": ["trainings:get"]}
    invites = write("POST /spaces/{id}/invite", "invite", "created", path=space_path, json=invited)["invites"]
    revoked = {**space_path, "invite_id": invites[1]["id"]}
    write("DELETE /spaces/{id}/invites/{invite_id}", "invite", "updated", path=revoked)
    write("POST /users/invites/accept", "membership", "created", by=bob, also=("invite",))
    bob_id = bob.get("/me").json()["id"]
    granted = {"permissions": ["trainings:list"]}
    write("POST /users/{id}/permissions", "membership", "updated", path={"id": bob_id}, json=granted)
    removed = {**space_path, "user_id": bob_id}
    update("/spaces/{id}/members/{user_id}", "membership", is_owner=(True, False))(removed)
    account = write("POST /spaces/{id}/service-accounts", "membership", "created", path=space_path, json={"name": "CI"})
    account_path, new_key = {**space_path, "account_id": account["id"]}, {"name": "Batch", "scopes": ["read"]}
    account_keys = "POST /spaces/{id}/service-accounts/{account_id}/api-keys"
    write(account_keys, "api_key", "created", path=account_path, json=new_key)
    rules = {"other_eyes": "always", "max_unsupported_claims": 3}
    write("PUT /spaces/{id}/review-rules", "space", "updated", path=space_path, json=rules)
    write("DELETE /spaces/{id}/members/{user_id}", "membership", "deleted", path=removed)

    endpoint_body = {"url": f"{upstream.url}/hooks"}
    endpoint = {"id": write("POST /webhook-endpoints", "webhook_endpoint", "created", json=endpoint_body)["id"]}
    update("/webhook-endpoints/{id}", "webhook_endpoint", description=("a", "b"))(endpoint)

    for route, entity, path in (
        ("/webhook-endpoints/{id}", "webhook_endpoint", endpoint),
        ("/actions/{id}", "action", {"id": action}),
        ("/action-groups/{id}", "action_group", {"id": group}),
        ("/benchmarks/{id}", "benchmark", benchmark),
        ("/chats/{id}", "chat", chat),
        ("/clusters", "cluster", {}),
        ("/experts/{id}", "expert", expert),
        ("/personas/{id}", "persona", persona),
        ("/trainings/{id}", "training", training),
        ("/data-models/{id}", "data_model", data_model),
        ("/connectors/{id}", "connector", connector),
    ):
        write(f"DELETE {route}", entity, "deleted", path=path)
    write("DELETE /spaces/{id}", "space", "deleted", path=space_path)
    write("POST /spaces/{id}/restore", "space", "restored", path=space_path)
    write("POST /spaces", "space", "created", also=("membership",), json=named)

    writing = {str(each) for each in operations() if each.method != "GET"}
    assert writing - ROUTES_WITHOUT_ROWS == audit.audited, "call each new route above or list it in ROUTES_WITHOUT_ROWS"
    token = KeyToken.parse(key["key"])
    assert token is not None
    secrets = (TOKEN, ACCESS_KEYS["secret_access_key"], key["key"], token.hash)
    written = json.dumps(held_by_aws(about="audit#"))
    assert len(written) > 100_000
    assert not [secret for secret in secrets if secret in written]
