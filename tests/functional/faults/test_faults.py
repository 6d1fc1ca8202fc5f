"""The drills in their short form, with a fixed seed; ``make drill`` goes on with others for as long as one likes."""

import pytest
from botocore.exceptions import ReadTimeoutError

from shared.aws.clock import new_id, utc_now
from shared.models.data_model import DataModel
from shared.store.repository import Repository
from shared.store.table import Key, put, update
from tests.faults.boundary import Fault
from tests.faults.recount import Recount, read
from tests.faults.scenarios import SCENARIOS
from tests.faults.world import emulated
from tests.fixtures.arguments import add_argument
from tests.fixtures.aws import TABLE

SEED = 1
SEEN = (
    "counted 1, there are 2",
    "persona_key",
    "is no data_model",
    "1 uses noted, 0 trainings",
    "is left of a deleted chat",
    "has no secret",
    "in the list only",
    "version 7 after 0 changes",
)


@pytest.fixture(scope="module", autouse=True)
def what_calls_need_is_noted() -> None:
    """It is not: what they need is up to chance here."""


@pytest.mark.row("Y-9")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SCENARIOS)
def test_whatever_fails_what_was_promised_holds(name: str) -> None:
    with emulated(SEED) as world:
        _, broken = SCENARIOS[name](world, SEED)
        assert sum(world.boundary.injected.values()) > 5 or name == "skewed clocks"
    assert not broken


def data_model() -> DataModel:
    now = utc_now()
    return DataModel(id=new_id(), created_at=now, updated_at=now, name="Churn")


def test_a_write_whose_answer_is_lost_is_not_taken_for_somebody_else_s() -> None:
    """The SDK repeats it, and its condition then meets what it has written itself."""
    with emulated(SEED) as world:
        models = Repository(world.worker().table, DataModel, kind="data_model")
        with world.boundary.failing(Fault.LATE_LOST, at=1):
            made = models.create("s1", data_model())
        with world.boundary.failing(Fault.LATE_LOST, at=1):
            changed = models.update("s1", made.id, {"name": "Changed"}, expected_version=made.version)
        assert (changed.name, changed.version, models.count("s1")) == ("Changed", 2, 1)
        assert sum(world.boundary.injected.values()) == 2


def test_what_is_never_answered_ends_as_a_timeout_in_time() -> None:
    with emulated(SEED) as world:
        table = world.worker().table
        with world.boundary.failing(Fault.LOST), pytest.raises(ReadTimeoutError):
            table.get(Key("data_model#s1", new_id()))
        assert 20 <= world.boundary.seconds < 29


def test_a_recount_finds_what_does_not_agree() -> None:
    """A drill whose judge sees nothing proves nothing."""
    with emulated(SEED) as world:
        resources = world.worker()
        owner = world.owner(resources)
        space_id = str(owner.headers["X-Space-Id"])
        models = Repository(resources.table, DataModel, kind="data_model")
        made = models.create(space_id, data_model())
        assert Recount(read(resources.dynamodb, TABLE)).problems() == []

        resources.table.write(models.put_action(space_id, data_model()))
        resources.table.write(put(Key(f"persona_key#{space_id}", "nobody"), {"ids": [new_id()]}))
        resources.table.write(put(models.key(space_id, made.id), {"id": made.id, "active_uses": 1}))
        for kind in (f"chat_turn#{space_id}#{new_id()}", f"webhook_endpoint_secret#{space_id}"):
            resources.table.write(put(Key(kind, new_id()), {}))
        argument = Key(f"argument#{space_id}", add_argument(resources.table, space_id))
        resources.table.write(update(argument, {"review": {"status": "success"}, "version": 7}))
        found = "\n".join(Recount(read(resources.dynamodb, TABLE)).problems())
        for word in SEEN:
            assert word in found
