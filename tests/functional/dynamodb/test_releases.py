"""This release reads what is in the tables, and says so where it cannot."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import boto3
import pytest
from starlette.testclient import TestClient

from functions import migration
from functions.api import build_api
from infra.groups import FUNCTIONS
from infra.local import launcher
from infra.local.launcher import migrate
from infra.local.settings import LocalError
from shared.clock import utc_now
from shared.dynamodb import schemas
from shared.dynamodb.codec import decode_item, encode_item
from shared.dynamodb.schemas import NewerSchemaError, kind_of
from shared.dynamodb.table import Key, Table, put, update
from shared.resources import Resources
from tests.fixtures.aws import LOGS_TABLE, TABLE, settings_for
from tests.fixtures.identity import Issuer
from tests.fixtures.operations import all_operations
from tests.fixtures.releases import FOLDER, Release, releases, this_version
from tests.fixtures.tenants import two_tenants
from tests.fixtures.upstream import FakeUpstream
from tests.fixtures.webhooks import FakeSqs

FILES = releases()
# These need the servers of language models, which are no part of what is stored.
CALLS_SERVERS = ("/models", "/v1/", "/clusters/status")
# The stored run has not ended.
OF_ENDED_RUNS = "/decision-runs/{id}/summary"


def test_the_release_is_stored(
    request: pytest.FixtureRequest, aws: None, issuer: Issuer, scoring_model: bytes, upstreams: list[FakeUpstream]
) -> None:
    path = FOLDER / f"{this_version()}.json.gz"
    if request.config.getoption("--write-release"):
        with two_tenants(settings_for(issuer), issuer, scoring_model, upstreams) as world:
            # Every other write: it makes more kinds of items.
            for operation in all_operations():
                if operation.method in ("POST", "PUT", "PATCH"):
                    operation.send(world.alice, world.alices)
            Release.stored(utc_now(), dict(world.alices)).write(path)
    assert path in releases(), "run: python -m pytest tests/functional/dynamodb --write-release"


@pytest.fixture(params=FILES, ids=lambda path: path.name.removesuffix(".json.gz"))
def release(request: pytest.FixtureRequest, aws: None) -> Release:
    stored = Release.read(request.param)
    stored.restore()
    return stored


@pytest.fixture
def client(release: Release, issuer: Issuer) -> Iterator[TestClient]:
    """Yields a client of Alice, who has used the release, on the day of the release."""
    settings = settings_for(issuer).model_copy(update={"allow_loopback": True})
    resources = Resources(settings, clock=lambda: release.at, sqs=FakeSqs(utc_now))
    headers = {"Authorization": f"Bearer {issuer.token('alice')}", "X-Space-Id": release.ids["/spaces/{id}"]}
    with TestClient(build_api(resources), headers=headers) as client:
        yield client


def test_every_read_returns_what_the_release_stored(release: Release, client: TestClient) -> None:
    documented = [one for one in all_operations() if one.route.include_in_schema]
    reads = [one for one in documented if one.method == "GET" and not one.path.startswith(CALLS_SERVERS)]
    reads = [one for one in reads if release.ids.keys() >= set(one.parameters)]  # others are newer than the release
    reads = [one for one in reads if one.path != OF_ENDED_RUNS]
    statuses = {str(each): each.send(client, release.ids).status_code for each in reads}
    assert len(statuses) > 40
    assert {name: status for name, status in statuses.items() if status != 200} == {}


def test_the_release_stored_most_kinds_and_this_one_knows_them_all(release: Release) -> None:
    stored = Counter(kind_of(decode_item(item)) for items in release.tables.values() for item in items)
    known = set(schemas.SCHEMAS)
    assert set(stored) <= known
    assert len(stored) > 0.7 * len(known)


def test_each_kind_that_functions_store_has_a_version() -> None:
    granted = [spec.grants for spec in FUNCTIONS]
    assert {kind for each in granted for kind in (*each.reads, *each.writes)} == set(schemas.ENTITIES)
    assert {kind for each in granted for kind in (*each.reads_logs, *each.writes_logs)} == set(schemas.LOGS)


def test_nothing_of_the_release_is_unreadable(release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    assert migration.main(["--dry-run", TABLE, LOGS_TABLE]) == 0
    assert "cannot be read" not in capsys.readouterr().out


# --- a kind that has changed twice


def split_name(item: dict[str, Any]) -> dict[str, Any]:
    if "name" not in item:
        return item
    first, _, last = item["name"].partition(" ")
    return {**{key: value for key, value in item.items() if key != "name"}, "first": first, "last": last}


def count_letters(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "letters": len(item["first"])}


CHANGED = {**schemas.SCHEMAS, "persona": (split_name, count_letters)}
KEY = Key("persona#space", "1")


@pytest.fixture
def table(aws: None, monkeypatch: pytest.MonkeyPatch) -> Table:
    """Returns a table with a persona from before the changes."""
    table = Table(boto3.client("dynamodb"), TABLE)
    table.write(put(KEY, {"name": "Ada Lovelace", "notes": "x"}))
    for name in ("upgraded", "stamped"):
        original: Callable[..., Any] = getattr(schemas, name)
        monkeypatch.setattr(f"shared.dynamodb.table.{name}", lambda item, step=original: step(item, CHANGED))
    return table


NEW = {"PK": KEY.pk, "SK": KEY.sk, "first": "Ada", "last": "Lovelace", "letters": 3, "notes": "x"}


def raw() -> dict[str, Any]:
    found: Any = boto3.client("dynamodb").get_item(TableName=TABLE, Key=encode_item(KEY.values))
    return decode_item(found["Item"])


def store_raw(**values: Any) -> None:
    """Stores an item as another release would."""
    boto3.client("dynamodb").put_item(TableName=TABLE, Item=encode_item({**KEY.values, **values}))


def test_an_older_item_is_read_in_the_newest_version_and_stays_as_it_is(table: Table) -> None:
    assert table.get(KEY) == NEW
    assert table.get_many([KEY]) == {KEY: NEW}
    assert list(table.query(KEY.pk)) == [NEW]
    assert raw()["name"] == "Ada Lovelace"


def test_an_item_that_is_written_has_the_newest_version(table: Table) -> None:
    table.write(put(KEY, NEW))
    assert raw() == {**NEW, "schema_version": 3}
    assert table.get(KEY) == NEW


def test_an_update_of_an_older_item_is_read_correctly(table: Table) -> None:
    assert table.write(update(KEY, {"notes": "y"})) == {**NEW, "notes": "y"}
    assert table.get(KEY) == {**NEW, "notes": "y"}


def test_an_item_of_a_newer_release_is_refused_and_not_guessed_at(table: Table) -> None:
    store_raw(full_name="Ada Lovelace", schema_version=4)
    with pytest.raises(NewerSchemaError, match="version 4"):
        table.get(KEY)


def test_a_dry_run_counts_and_a_migration_writes(table: Table) -> None:
    for dry_run, stored in ((True, raw()), (False, {**NEW, "schema_version": 3})):
        migrated = migration.Migration(boto3.client("dynamodb"), CHANGED)
        migrated.run(TABLE, dry_run=dry_run)
        assert migrated.older == {("persona", 1): 1}
        assert raw() == stored
    again = migration.Migration(boto3.client("dynamodb"), CHANGED)
    again.run(TABLE, dry_run=False)
    assert (again.older.total(), again.current["persona"]) == (0, 1)


def test_a_migration_leaves_an_item_that_somebody_writes_meanwhile(table: Table) -> None:
    migrated = migration.Migration(boto3.client("dynamodb"), CHANGED)
    old = raw()
    table.write(update(KEY, {"name": "Grace Hopper"}))
    migrated._migrate(TABLE, old)
    assert migrated.busy == 1
    assert raw()["name"] == "Grace Hopper"


def test_items_that_this_release_cannot_read_fail_the_check(table: Table, capsys: pytest.CaptureFixture[str]) -> None:
    store_raw(schema_version=9)
    store_raw(PK="dream#1")
    assert migration.main(["--dry-run", TABLE]) == 1
    lines = capsys.readouterr().out
    assert "1 of kind persona, version 9, cannot be read" in lines
    assert "1 of kind dream, version 1, cannot be read" in lines
    with pytest.raises(LocalError, match="make clean"):
        migrate(boto3.client("dynamodb"), {"TableName": TABLE, "LogsTableName": LOGS_TABLE})


def test_the_local_stack_brings_older_data_to_the_newest_version(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "Migration", partial(migration.Migration, schemas=CHANGED))
    migrate(boto3.client("dynamodb"), {"TableName": TABLE, "LogsTableName": LOGS_TABLE})
    assert raw() == {**NEW, "schema_version": 3}
