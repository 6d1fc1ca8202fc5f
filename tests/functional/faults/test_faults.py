"""Short fault-injection tests with a fixed seed, and tests of their tools."""

from functools import partial

import pytest
from botocore.exceptions import ReadTimeoutError

from shared.clock import new_id, utc_now
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import Key, put, update
from shared.models.data_model import DataModel
from tests.faults.boundary import Fault
from tests.faults.consistency import find_problems
from tests.faults.emulated_platform import emulated_platform
from tests.faults.neighbour import neighbour
from tests.faults.scenarios import SCENARIOS
from tests.faults.stored_items import StoredItems, read_items
from tests.fixtures.arguments import add_argument
from tests.fixtures.aws import TABLE

SEED = 1
# Each attack comes twice. Only ``make faults`` needs more, because it measures.
SHORT_SCENARIOS = SCENARIOS | {"neighbour": partial(neighbour, rounds=12)}
EXPECTED_PROBLEMS = (
    "the counter is 1, there are 2",
    "persona_key",
    "is no data_model",
    "the reference count is 1, 0 jobs use it",
    "remains of a deleted chat",
    "has no secret",
    "is not listed, or does not exist",
    "1 places are taken by 0 keys",
    "is missing in the list, or only there",
    "version 7 after 0 changes",
    "runs, and its record does not",
    "runs beside another one",
    "is of no training",
    "spaces/s/pins/c-1.json is of no space",
    "is of a kind that no check knows",
    "is of no scan",
    "remains of a training without a model",
    "the pins spaces/s/pins/c-1.json remain",
    "part-00000.parquet remains of a run that has succeeded",
    "c/out has 1 files, and its run has 2",
    "1 contacts are held by nobody",
    "is a folder without a run",
)


@pytest.fixture(scope="module", autouse=True)
def record_needed_grants() -> None:
    """Turns off the record of needed grants, because the needed grants depend on chance here."""


@pytest.mark.row("Y-9", "SE-4")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SHORT_SCENARIOS)
def test_the_stored_data_is_consistent_after_injected_faults(name: str) -> None:
    with emulated_platform(SEED) as platform:
        _, problems = SHORT_SCENARIOS[name](platform, SEED)
        assert sum(platform.boundary.injected.values()) > 5 or name in ("skewed clocks", "neighbour")
    assert not problems


def data_model() -> DataModel:
    now = utc_now()
    return DataModel(id=new_id(), created_at=now, updated_at=now, name="Churn")


def test_a_write_with_a_lost_response_recognises_its_own_result() -> None:
    """The SDK repeats the write, and its condition then finds the item that the write stored itself."""
    with emulated_platform(SEED) as platform:
        models = Repository(platform.worker().table, DataModel, kind="data_model")
        with platform.boundary.failing(Fault.LATE_LOST, at=1):
            made = models.create("s1", data_model())
        with platform.boundary.failing(Fault.LATE_LOST, at=1):
            changed = models.update("s1", made.id, {"name": "Changed"}, expected_version=made.version)
        assert (changed.name, changed.version, models.count("s1")) == ("Changed", 2, 1)
        assert sum(platform.boundary.injected.values()) == 2


def test_a_call_without_a_response_times_out_before_the_gateway() -> None:
    with emulated_platform(SEED) as platform:
        table = platform.worker().table
        with platform.boundary.failing(Fault.LOST), pytest.raises(ReadTimeoutError):
            table.get(Key("data_model#s1", new_id()))
        assert 20 <= platform.boundary.seconds < 29


def test_the_checks_find_inconsistent_items() -> None:
    with emulated_platform(SEED) as platform:
        resources = platform.worker()
        owner = platform.owner(resources)
        space_id = str(owner.headers["X-Space-Id"])
        models = Repository(resources.table, DataModel, kind="data_model")
        made = models.create(space_id, data_model())
        assert find_problems(StoredItems(read_items(resources.dynamodb, TABLE))) == []

        resources.table.write(models.put_write(space_id, data_model()))
        resources.table.write(put(Key(f"persona_key#{space_id}", "nobody"), {"ids": [new_id()]}))
        resources.table.write(put(models.key(space_id, made.id), {"id": made.id, "active_uses": 1}))
        for kind in (f"chat_turn#{space_id}#{new_id()}", f"webhook_endpoint_secret#{space_id}"):
            resources.table.write(put(Key(kind, new_id()), {}))
        resources.table.write(put(Key(f"api_key_entry#{space_id}", new_id()), {"user_id": new_id()}))
        resources.table.write(put(Key(f"api_key#{space_id}#{new_id()}#places", "first"), {"taken": 1}))
        argument = Key(f"argument#{space_id}", add_argument(resources.table, space_id))
        resources.table.write(update(argument, {"review": {"status": "success"}, "version": 7}))
        ended, job = new_id(), new_id()
        values = {"status": "failed", "checkpoint_ids": [], "pins": {"c": "spaces/s/pins/c-1.json"}}
        resources.table.write(put(Key("training#s#deleted", ended), values))
        objects = [f"spaces/s/trainings/{each}/input/job.json" for each in (ended, job)]
        run, output = new_id(), {"connector_id": "c", "folder": "out"}
        finished_run = {"id": run, "status": "succeeded", "work_id": run, "parts": 1, "output": output}
        resources.table.write(put(Key(f"prediction#{space_id}", run), finished_run))
        resources.table.write(put(Key(f"run_output#{space_id}", "c"), {f"folder#{run}": "out"}))
        resources.table.write(put(Key(f"insight_contact#{space_id}#k", "~contact#1"), {"hold": "nobody"}))
        objects += [
            f"temporary/spaces/{space_id}/runs/{run}/parts/part-00000.parquet",
            f"spaces/{space_id}/connectors/c/out/part-00000.parquet",
        ]
        open_job = Key("job#open", new_id())
        resources.table.write(put(open_job, {}))
        running = [*(f"training-{job}-{number}" for number in (1, 2)), f"decision-run-{open_job.sk}"]
        items = read_items(resources.dynamodb, TABLE)
        strange = [f"spaces/{space_id}/{kind}/list.json" for kind in ("results", f"scans/{new_id()}")]
        stored = StoredItems(items, objects=[*objects, *strange, "spaces/s/pins/c-1.json"], running_jobs=running)
        found = "\n".join(find_problems(stored))
        for problem in EXPECTED_PROBLEMS:
            assert problem in found
        assert f"decision-run-{open_job.sk} runs" not in found
