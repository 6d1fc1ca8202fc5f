"""All newest results on a benchmark in one value, so that filters and averages cost the same for any number.

``score#<space>#<benchmark>#recent``, ``<checkpoint>``: results that the value has not yet. A result is written here
together with its score. When there are many, they are moved to the value, which is an object if it is large.
``score#<space>#<benchmark>#board``: the value. Results of the time before it are only in the index of scores.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from boto3.dynamodb.conditions import Attr

from shared.clock import new_id
from shared.dynamodb.large_values import LargeValues
from shared.dynamodb.table import ConditionFailedError, Item, Key, Table, TransactionFailedError, delete, put
from shared.evaluations.scores import CHECKPOINT_FIELDS, ScoreEntry, Scores, recent_partition
from shared.models.job import MetricName

# A reader reads all of them one by one.
RECENT_RESULTS = 200
_COLUMNS = ("checkpoint_id", "version", "revision", *CHECKPOINT_FIELDS, *MetricName)

# The values of the columns.
BoardRow = tuple[Any, ...]


class Boards:
    def __init__(self, table: Table, values: LargeValues) -> None:
        self._table = table
        self._values = values
        self._scores = Scores(table)

    def entries(self, space_id: str, benchmark_id: str, revision: int, metric: MetricName) -> list[ScoreEntry]:
        """Returns the entries of all checkpoints that were measured at this revision, in no order."""
        # Read first: a result that is moved between the two reads is found in both places.
        recent = [_row(item) for item in self._table.query(recent_partition(space_id, benchmark_id))]
        board = self._table.get(_key(space_id, benchmark_id))
        if board is None:
            return self._scores.entries(space_id, benchmark_id, revision, metric)
        value, described = _COLUMNS.index(metric), slice(3, 3 + len(CHECKPOINT_FIELDS))
        return [
            ScoreEntry(row[0], row[value], *row[described])
            for row in _newest(self._load(board), recent)
            if row[2] == revision
        ]

    def pack(self, space_id: str, benchmark_id: str) -> None:
        """Moves recent results to the board's value, if there are many of them. Safe to repeat, and to break off."""
        recent = [_row(item) for item in self._table.query(recent_partition(space_id, benchmark_id))]
        if len(recent) < RECENT_RESULTS:
            return
        key = _key(space_id, benchmark_id)
        board = self._table.get(key)
        rows = _newest(self._load(board) if board else self._indexed(space_id, benchmark_id), recent)
        columns = dict(zip(_COLUMNS, map(list, zip(*rows, strict=True)), strict=True))
        name = f"spaces/{space_id}/leaderboards/{benchmark_id}/{new_id()}.json"
        kept, also = self._values.keep(space_id, columns, name, key)
        outdated = board and board["kept"].get("object_key")
        # Readers may still be at it. It is removed later, because no item names it any more.
        notes = [self._values.purges.note(space_id, outdated, item=[key.pk, key.sk])] if outdated else []
        number = board["number"] if board else 0
        unchanged = Attr("number").eq(number) if board else Attr("PK").not_exists()
        try:
            self._table.transact([put(key, {"kept": kept, "number": number + 1}, unchanged), *also, *notes])
        except TransactionFailedError:  # somebody else did the same
            return
        for checkpoint_id, version, *_ in recent:
            # One that was measured again since then stays.
            with suppress(ConditionFailedError):
                moved = Key(recent_partition(space_id, benchmark_id), checkpoint_id)
                self._table.write(delete(moved, Attr("version").eq(version)))

    def _load(self, board: Item) -> list[BoardRow]:
        columns = self._values.load(board["kept"])
        return list(zip(*(columns[name] for name in _COLUMNS), strict=True))

    def _indexed(self, space_id: str, benchmark_id: str) -> list[BoardRow]:
        """Returns the results of the index of scores. Results with a version are newer."""
        found: dict[str, dict[str, Any]] = {}
        for metric in MetricName:
            for revision, entry in self._scores.all_entries(space_id, benchmark_id, metric):
                described = entry._asdict()
                values = found.setdefault(entry.checkpoint_id, {**described, "version": 0, "revision": revision})
                values[metric] = entry.value
        return [tuple(values.get(name) for name in _COLUMNS) for values in found.values()]


def _key(space_id: str, benchmark_id: str) -> Key:
    return Key(f"score#{space_id}#{benchmark_id}#board", "board")


def _row(item: Item) -> BoardRow:
    values: Mapping[str, Any] = {**item, **item["metrics"], "checkpoint_id": item["SK"]}
    return tuple(values.get(name) for name in _COLUMNS)


def _newest(rows: Iterable[BoardRow], recent: Iterable[BoardRow]) -> list[BoardRow]:
    """Returns one row for each checkpoint: the one with the higher version."""
    newest = {row[0]: row for row in rows}
    for row in recent:
        if row[0] not in newest or row[1] > newest[row[0]][1]:
            newest[row[0]] = row
    return list(newest.values())
