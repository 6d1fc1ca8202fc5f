"""A deleted space is gone for everybody at once, with all that belongs to it, and comes back as it was."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from fastapi.testclient import TestClient

from functions.events.job_state_changed import job_state_changed
from functions.events.purge_spaces import SpacePurge
from functions.events.reconcile_jobs import reconcile_jobs, settle_spaces
from shared.dynamodb.table import Key, Table
from shared.errors import NotFoundError
from shared.jobs.store import Jobs
from shared.models.job_status import JobStatus
from shared.resources import Resources
from shared.settings import Settings
from shared.spaces.store import RESTORABLE, Spaces
from shared.trainings.store import Trainings
from tests.fixtures.aws import BUCKET
from tests.fixtures.clocks import MovableClock
from tests.fixtures.evaluations import add_checkpoint, add_member
from tests.fixtures.inference_logs import call
from tests.fixtures.sagemaker import FakeSageMaker
from tests.fixtures.spaces import ACCESS_KEYS, fill, held_by_aws
from tests.fixtures.trainings import active_uses, add_benchmark, space_of, training_request
from tests.fixtures.upstream import FakeUpstream, served
from tests.functional.conftest import ClientMaker, same_caller

NAMES = ("carol", "dave", "erin")


@pytest.fixture(autouse=True)
def one_job_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unlike AWS, moto can't be written to by several threads at once."""
    monkeypatch.setattr("functions.events.reconcile_jobs.CONCURRENCY", 1)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"allow_loopback": True})


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with served(FakeUpstream()) as upstream:
        yield upstream


@pytest.fixture
def members(client: TestClient, sign_in: ClientMaker, table: Table) -> list[TestClient]:
    """Three members of Alice's space, each with one space more."""
    found = [sign_in(name) for name in NAMES]
    for member in found:
        member.post("/spaces", json={"name": "Mine", "description": ""})
        add_member(table, member, space_of(client), ["trainings:list"])
    return found


def place(client: TestClient) -> str:
    return f"/spaces/{space_of(client)}"


def spaces_of(client: TestClient) -> list[str]:
    """The ids of the user's spaces, which the count and ``/me`` agree with."""
    page = client.get("/spaces").json()
    listed = [space["id"] for space in page["data"]]
    assert page["count"] == len(listed)
    assert [space["id"] for space in client.get("/me", headers={"X-Space-Id": ""}).json()["spaces"]] == listed
    return listed


def contents(client: TestClient) -> dict[str, Any]:
    """All that AWS holds of the space but for the space's own item."""
    space_id = space_of(client)
    return {key: item for key, item in held_by_aws(about=space_id).items() if f" space#{space_id} " not in key}


@pytest.mark.row("SP-2", "C-14")
def test_a_deleted_space_is_unknown_to_its_members_with_all_that_belongs_to_it(
    client: TestClient, members: list[TestClient]
) -> None:
    persona = client.post("/personas", json={"name": "Ada", "birthdate": "1815-12-10", "notes": ""}).json()
    assert len(spaces_of(members[0])) == 2
    assert client.delete(place(client)).json() == {"id": space_of(client)}

    for answer in (
        client.delete(place(client)),
        client.get(place(client)),
        client.put(place(client), json={"name": "Late"}),
        client.get(f"{place(client)}/members"),
        client.get(f"/personas/{persona['id']}"),
        client.post("/data-models", json={"name": "Late"}),
        members[0].get("/personas"),
        members[0].get(place(client)),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), answer.text
    assert spaces_of(client) == []
    for member in members:
        assert len(spaces_of(member)) == 1
        # The one that is left is implied again.
        assert member.get("/personas", headers={"X-Space-Id": ""}).status_code == 200


@pytest.mark.row("SP-2")
def test_a_restored_space_brings_every_child_back_unchanged(
    client: TestClient, members: list[TestClient], resources: Resources, upstream: FakeUpstream
) -> None:
    fill(client, resources, upstream.url)
    before, space = contents(client), client.get(place(client)).json()
    listed = [spaces_of(each) for each in (client, *members)]
    client.delete(place(client))
    assert client.post(f"{place(client)}/restore").json() == {"id": space_of(client)}

    assert contents(client) == before
    assert [spaces_of(each) for each in (client, *members)] == listed
    restored = client.get(place(client)).json()
    assert restored == space | {"updated_at": restored["updated_at"]}
    assert client.post("/data-models", json={"name": "Again"}).status_code == 201
    assert members[0].get("/trainings").json()["count"] == 2
    assert members[0].get("/data-models").status_code == 403, "rights are those from before"


@pytest.mark.row("SP-2")
def test_only_the_owner_deletes_and_restores_and_strangers_see_nothing(
    client: TestClient, members: list[TestClient], other_client: TestClient
) -> None:
    member = members[0]
    assert member.delete(place(client)).status_code == 403
    assert member.post(f"{place(client)}/restore").status_code == 403
    unknown = other_client.post("/spaces/01a2081a-1610-752b-8cc0-d52dcf52e48d/restore")
    for _ in range(2):
        for stranger in (other_client.delete, lambda place: other_client.post(f"{place}/restore")):
            answer = stranger(place(client))
            assert answer.status_code == 404
            assert answer.json() | {"request_id": ""} == unknown.json() | {"request_id": ""}
        assert client.delete(place(client)).status_code in (200, 404)
    assert member.post(f"{place(client)}/restore").status_code == 403
    assert client.post(f"{place(client)}/restore").status_code == 200


@pytest.mark.row("SP-2")
def test_restoring_a_space_in_use_changes_nothing_and_one_deleted_too_long_ago_is_unknown(
    client: TestClient, clock: MovableClock
) -> None:
    space = client.get(place(client))
    assert client.post(f"{place(client)}/restore").json() == {"id": space_of(client)}
    assert client.get(place(client)).json() == space.json()

    client.delete(place(client))
    clock.now += RESTORABLE - timedelta(seconds=1)
    assert client.post(f"{place(client)}/restore").status_code == 200
    client.delete(place(client))
    clock.now += RESTORABLE
    assert client.post(f"{place(client)}/restore").status_code == 404


@pytest.mark.row("SP-2")
def test_the_name_is_free_at_once(client: TestClient) -> None:
    name = client.get(place(client)).json()["name"]
    client.delete(place(client))
    again = client.post("/spaces", json={"name": name, "description": ""})
    assert again.status_code == 201
    client.post(f"{place(client)}/restore")
    assert sorted(spaces_of(client)) == sorted([space_of(client), again.json()["id"]])


@pytest.mark.row("C-13")
def test_a_space_that_changed_meanwhile_is_not_deleted(client: TestClient) -> None:
    tag = client.get(place(client)).headers["ETag"]
    client.put(place(client), json={"name": "Changed"})
    assert client.delete(place(client), headers={"If-Match": tag}).status_code == 412
    assert client.get(place(client)).status_code == 200


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


@pytest.mark.row("SP-2")
@pytest.mark.parametrize("moved", range(5))
def test_a_restore_in_the_middle_of_a_delete_leaves_no_half_state(
    client: TestClient, members: list[TestClient], table: Table, moved: int
) -> None:
    before = contents(client)
    owner_id = client.get("/me").json()["id"]
    Spaces(table).delete(space_of(client), owner_id, None)
    late = InterruptedTable(table, moved, lambda: client.post(f"{place(client)}/restore"))
    Spaces(late).settle(space_of(client))
    client.post(f"{place(client)}/restore")  # of four memberships, the fifth interruption never comes

    assert contents(client) == before
    assert all(space_of(client) in spaces_of(each) for each in (client, *members))
    assert list(Spaces(table).unsettled()) == []


@pytest.mark.row("SP-2")
@pytest.mark.parametrize("moved", range(4))
def test_a_delete_in_the_middle_of_a_restore_leaves_no_half_state(
    client: TestClient, members: list[TestClient], table: Table, moved: int
) -> None:
    owner_id = client.get("/me").json()["id"]

    def delete() -> None:
        Spaces(table).delete(space_of(client), owner_id, None)
        Spaces(table).settle(space_of(client))

    delete()
    Spaces(table).restore(space_of(client), owner_id)
    Spaces(InterruptedTable(table, moved, delete)).settle(space_of(client))

    assert not any(space_of(client) in spaces_of(each) for each in (client, *members))
    assert client.get(place(client)).status_code == 404
    assert list(Spaces(table).unsettled()) == []


@pytest.mark.row("SP-2")
def test_what_a_request_left_undone_the_reconciler_does(
    client: TestClient, members: list[TestClient], resources: Resources, table: Table
) -> None:
    owner_id = client.get("/me").json()["id"]
    spaces = Spaces(table)
    spaces.delete(space_of(client), owner_id, None)
    spaces.settle(space_of(client), at_most=2)
    # Cut off: the space is gone all the same, if still counted for some.
    assert all(each.get("/personas").status_code == 404 for each in (client, *members))
    settle_spaces(resources)
    assert not any(space_of(client) in spaces_of(each) for each in (client, *members))

    spaces.restore(space_of(client), owner_id)
    spaces.settle(space_of(client), at_most=1)
    settle_spaces(resources)
    assert all(space_of(client) in spaces_of(each) for each in (client, *members))
    assert list(spaces.unsettled()) == []


def test_a_member_whose_rights_change_while_the_space_is_deleted_is_moved_as_changed(
    client: TestClient, members: list[TestClient], table: Table
) -> None:
    member_id = members[0].get("/me").json()["id"]

    def grant() -> None:
        Spaces(table).members.add_permissions(space_of(client), member_id, [])
        Spaces(table).members.memberships.update(member_id, space_of(client), {"permissions": ["trainings:get"]})

    Spaces(table).delete(space_of(client), client.get("/me").json()["id"], None)
    Spaces(InterruptedTable(table, 0, grant)).settle(space_of(client))
    client.post(f"{place(client)}/restore")
    assert members[0].get("/me").json()["permissions"] == ["trainings:get"]


def start_jobs(client: TestClient, table: Table) -> tuple[dict[str, Any], dict[str, Any]]:
    """A training that runs and an evaluation that waits."""
    training = client.post("/trainings", json=training_request(client, table)).json()
    Trainings(table).advance(space_of(client), training["id"], JobStatus.RUNNING)
    benchmark = add_benchmark(client, training["connectors"][0]["connector_id"])
    checkpoint = add_checkpoint(table, space_of(client)).id
    body = {"benchmark_id": benchmark, "checkpoint_id": checkpoint, "gpu_count": 0}
    return training, client.post("/evaluations", json=body).json()


def execution_statuses() -> list[str]:
    steps = boto3.client("stepfunctions")
    return [
        execution["status"]
        for machine in steps.list_state_machines()["stateMachines"]
        for execution in steps.list_executions(stateMachineArn=machine["stateMachineArn"])["executions"]
    ]


@pytest.mark.row("SP-2", "TR-5")
def test_what_runs_in_a_deleted_space_is_stopped_and_ends_stopped(
    client: TestClient, other_client: TestClient, resources: Resources, table: Table
) -> None:
    sagemaker = FakeSageMaker()
    client = same_caller(client, Resources(resources.settings, sagemaker=sagemaker))
    training, evaluation = start_jobs(client, table)
    others, _ = start_jobs(other_client, table)
    job = f"training-{training['id']}-1"
    sagemaker.run(job)
    client.delete(place(client))
    assert sorted(execution_statuses()) == ["ABORTED", "ABORTED", "RUNNING", "RUNNING"]
    assert sagemaker.jobs[job]["TrainingJobStatus"] == "Stopping"

    reconcile_jobs(resources, 30)
    sagemaker.run(job, "Stopped")
    event = {"source": "aws.sagemaker", "detail": {"TrainingJobName": job, "TrainingJobStatus": "Stopped"}}
    job_state_changed(event, resources)
    reconcile_jobs(resources, 30)
    assert {found.space_id for found in Jobs(table).open_jobs()} == {space_of(other_client)}

    client.post(f"{place(client)}/restore")
    stopped = client.get(f"/trainings/{training['id']}").json()
    assert (stopped["status"], stopped["error"]) == ("stopped", "Its space was deleted.")
    result = client.get(f"/evaluations/{evaluation['id']}").json()["result"]
    assert (result["status"], result["error"]) == ("stopped", "Its space was deleted.")
    assert active_uses(table, "data_model", space_of(client), training["data_model_id"]) == 0
    assert other_client.get(f"/trainings/{others['id']}").json()["status"] == "running"


class Unreachable:
    """AWS can't be reached."""

    def __getattr__(self, operation: str) -> Any:
        raise EndpointConnectionError(endpoint_url="https://states.test")


@pytest.mark.row("SP-2")
def test_a_space_is_deleted_even_when_its_jobs_can_not_be_stopped_yet(
    client: TestClient, resources: Resources, table: Table
) -> None:
    training, _ = start_jobs(client, table)
    cut_off = same_caller(client, Resources(resources.settings, step_functions=Unreachable()))
    assert cut_off.delete(place(client)).status_code == 200
    assert client.get(place(client)).status_code == 404

    reconcile_jobs(resources, 30)
    assert execution_statuses() == ["ABORTED", "ABORTED"]
    reconcile_jobs(resources, 30)
    assert list(Jobs(table).open_jobs()) == []
    client.post(f"{place(client)}/restore")
    assert client.get(f"/trainings/{training['id']}").json()["status"] == "stopped"


# --- what nobody can restore any more


def left_of(space_id: str) -> list[str]:
    """Whatever AWS holds that tells of the space, in its key or in itself."""
    told = [key for key, item in held_by_aws().items() if space_id in key or space_id in str(item)]
    versions = boto3.client("s3").list_object_versions(Bucket=BUCKET)
    old = [each["Key"] for each in [*versions.get("Versions", []), *versions.get("DeleteMarkers", [])]]
    return told + [key for key in old if space_id in key]


def audit(resources: Resources, client: TestClient) -> None:
    """As if the stream had told of a data model's making."""
    made = client.post("/data-models", json={"name": "Told"}).json()
    resources.audit_logs.record([(None, resources.table.get(Key(f"data_model#{space_of(client)}", made["id"])))])


@pytest.mark.row("SP-2")
def test_a_purge_leaves_nothing_of_the_space_and_touches_no_other(
    client: TestClient,
    other_client: TestClient,
    members: list[TestClient],
    resources: Resources,
    clock: MovableClock,
    upstream: FakeUpstream,
) -> None:
    for each in (client, other_client):
        fill(each, resources, upstream.url)
        audit(resources, each)
    theirs = held_by_aws(about=space_of(other_client))
    assert len(theirs) > 100
    client.delete(place(client))
    clock.now += RESTORABLE - timedelta(minutes=1)
    assert SpacePurge(resources).run(60) == 0
    assert len(contents(client)) > 100

    clock.now += timedelta(minutes=2)
    assert SpacePurge(resources).run(60) == 1
    assert left_of(space_of(client)) == []
    assert held_by_aws(about=space_of(other_client)) == theirs
    assert client.post(f"{place(client)}/restore").status_code == 404
    assert all(len(spaces_of(member)) == 1 for member in members)
    assert SpacePurge(resources).run(60) == 0


class CutOffError(Exception):
    """The function's time is over."""


@pytest.mark.row("SP-2")
@pytest.mark.parametrize("calls", [1, 3, 5, 8, 11, 14])
def test_a_purge_that_is_cut_off_goes_on(
    client: TestClient, resources: Resources, clock: MovableClock, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    _fill_a_little(client, resources)
    client.delete(place(client))
    clock.now += RESTORABLE + timedelta(minutes=1)
    left = calls

    def cut(*_: Any, **__: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise CutOffError

    events = resources.dynamodb.meta.events
    events.register("before-call", cut)
    resources.s3.meta.events.register("before-call", cut)
    with pytest.raises(CutOffError):
        SpacePurge(resources).run(60)
    SpacePurge(resources).run(60)
    assert left < 0
    assert left_of(space_of(client)) == []


def _fill_a_little(client: TestClient, resources: Resources) -> None:
    client.post("/connectors", json={"name": "Theirs", "type": "aws-s3", "s3": ACCESS_KEYS})
    client.post("/personas", json={"name": "Ada", "birthdate": "1815-12-10", "notes": ""})
    resources.s3.put_object(Bucket=BUCKET, Key=f"spaces/{space_of(client)}/chats/1/2.json", Body=b"{}")
    resources.inference_logs.record(space_of(client), call(datetime.now(UTC), tags=["first"]))


@pytest.mark.row("SP-2")
def test_a_space_restored_in_the_last_moment_is_not_purged(
    client: TestClient, resources: Resources, table: Table, clock: MovableClock
) -> None:
    owner_id = client.get("/me").json()["id"]
    client.delete(place(client))
    spaces = Spaces(table, clock)
    clock.now += RESTORABLE - timedelta(seconds=1)
    late = Spaces(InterruptedTable(table, 0, lambda: clock_on(clock)), clock)
    late.restore(space_of(client), owner_id)
    spaces.settle(space_of(client))
    assert SpacePurge(resources).run(60) == 0
    assert client.get(place(client)).status_code == 200


def clock_on(clock: MovableClock) -> None:
    """The time to restore ends between a request's look and its write."""
    clock.now += timedelta(minutes=1)


@pytest.mark.row("SP-2")
def test_a_space_whose_purge_has_begun_is_not_restored(client: TestClient, table: Table, clock: MovableClock) -> None:
    owner_id = client.get("/me").json()["id"]
    client.delete(place(client))
    clock.now += RESTORABLE - timedelta(seconds=1)
    spaces = Spaces(table, clock)

    def close() -> None:
        clock.now += timedelta(minutes=1)
        assert [spaces.close(space) for space in spaces.due()] == [True]

    with pytest.raises(NotFoundError):
        Spaces(InterruptedTable(table, 0, close), clock).restore(space_of(client), owner_id)
    assert client.get(place(client)).status_code == 404
