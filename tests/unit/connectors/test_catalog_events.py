"""S3's events come twice and in any order: the catalog ends where the bucket is."""

import random

import boto3
import pytest

from shared.clock import new_id
from shared.connectors.catalog import Catalog, EventOutcome, ObjectVersion, Seen, comparable_sequencer
from shared.dynamodb.table import Key, put
from shared.models.catalog import CatalogColumn, CatalogEntry, CatalogStatus
from shared.models.reading import ReadWarning, WarningCode
from shared.resources import Resources
from tests.fixtures.aws import BUCKET

FILE = "a.csv"


@pytest.fixture
def catalog(resources: Resources) -> Catalog:
    return Catalog(resources.table, boto3.client("s3"), BUCKET, resources.clock)


def add_connector(resources: Resources) -> tuple[str, str]:
    space_id, connector_id = new_id(), new_id()
    resources.table.write(put(Key(f"connector#{space_id}", connector_id), {"id": connector_id}))
    return space_id, connector_id


def test_sequencers_of_unlike_lengths_compare_as_s3_says() -> None:
    assert comparable_sequencer("0055AED6DCD90281E5") < comparable_sequencer("0055aed6dcd90281e501")
    assert comparable_sequencer("00AB") == comparable_sequencer("00AB00")
    assert comparable_sequencer("00B") > comparable_sequencer("00AB99")


@pytest.mark.row("CN-5")
@pytest.mark.parametrize("seed", range(12))
def test_any_order_of_repeated_events_and_scans_ends_where_the_bucket_is(
    resources: Resources, catalog: Catalog, seed: int
) -> None:
    dice = random.Random(seed)  # noqa: S311 - shuffles a test
    where = add_connector(resources)
    history = [(number, dice.random() < 0.3) for number in range(1, 7)]
    deliveries = [*history, *dice.choices(history, k=6)]
    dice.shuffle(deliveries)
    bucket_is_empty, last = history[-1][1], history[-1][0]

    def scan() -> None:
        """Reads the bucket, which is at the end of its history already."""
        seen = Seen(catalog.sequencer(*where, FILE), catalog.pending(*where).get(FILE))
        if bucket_is_empty:
            catalog.record_missing(*where, FILE, seen, "scan")
        else:
            entry = CatalogEntry(file=FILE, status=CatalogStatus.SCANNED, etag=f"etag {last}", rows=last)
            catalog.record_result(*where, entry, seen)

    for number, is_deletion in deliveries:
        sequencer = comparable_sequencer(f"{number:04X}")
        if is_deletion:
            outcome = catalog.record_deleted(*where, FILE, sequencer)
        else:
            outcome = catalog.record_created(*where, ObjectVersion(FILE, f"etag {number}", number, sequencer))
        if outcome is EventOutcome.TO_SCAN and dice.random() < 0.5:
            scan()
    if catalog.has_pending(*where):
        scan()
    entries = catalog.entries(*where)
    if bucket_is_empty:
        assert entries == {}
    else:
        assert (entries[FILE].status, entries[FILE].etag, entries[FILE].rows) == ("scanned", f"etag {last}", last)
    assert catalog.pending(*where) == {}


def test_numbers_beyond_what_dynamodb_holds_come_back_from_the_catalog(resources: Resources, catalog: Catalog) -> None:
    where = add_connector(resources)
    column = {"name": "tiny", "type": "float", "nulls": 0, "distinct": 2, "min": 5e-324, "max": 1.7e308}
    entry = CatalogEntry.model_validate({"file": FILE, "status": "scanned", "columns": [column]})
    assert catalog.record_result(*where, entry, Seen())
    assert catalog.entries(*where)[FILE].columns == entry.columns


def test_warnings_and_date_formats_are_cut_before_an_item_is_too_large(resources: Resources, catalog: Catalog) -> None:
    where = add_connector(resources)
    warning = ReadWarning(code=WarningCode.VALUE, message="x" * 10_000)
    formats = ["%d/%m/%Y", "1.234,5"]
    columns = [
        CatalogColumn(name=f"{number}{'d' * 250}", type="date", nulls=0, distinct=1, formats=formats)
        for number in range(1_000)
    ]
    entry = CatalogEntry(
        file=FILE, status=CatalogStatus.SCANNED, columns=columns, warnings=[warning] * 100, warning_count=100
    )
    assert catalog.record_result(*where, entry, Seen())
    found = catalog.entries(*where)[FILE]
    assert (len(found.warnings), found.warning_count, found.columns) == (9, 100, columns)
    date_formats = catalog.states(*where)[FILE].date_formats
    assert 100 < len(date_formats) < 1_000
    assert set(map(tuple, date_formats.values())) == {("%d/%m/%Y",)}, "formats of numbers are left out"
