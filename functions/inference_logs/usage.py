"""Adds up calls by day, hour, model, type or user, with their cost."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Self

from shared.inference_logs.rollups import DAY, HOUR, Cell
from shared.inference_logs.store import PARALLEL_READS, InferenceLogs
from shared.models.inference_log import CallStatus, LogFilters, UsageGroup, UsageRow
from shared.models.limits import NANO, SpaceLimits
from shared.space_binding import BoundThreads
from shared.spaces.members import Members

# Each member's sums are read one by one. The calls of further members are among those of other users.
MOST_MEMBERS = 500


@dataclass(frozen=True)
class Sums:
    """Sums of calls. ``cost`` is in billionths of the currency of the space."""

    calls: int = 0
    succeeded: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    latency_us: int = 0
    cost: int = 0

    @classmethod
    def of(cls, cells: Iterable[Cell], prices: SpaceLimits) -> Self:
        found = cls()
        for cell in cells:
            calls = cell.totals.calls
            succeeded = calls if cell.status == CallStatus.SUCCESS else 0
            tokens = cell.totals.input_tokens, cell.totals.output_tokens
            cost = prices.price(cell.model).cost(*tokens)
            found += cls(calls, succeeded, *tokens, cell.totals.total_tokens, cell.totals.latency_us, cost)
        return found

    def __add__(self, other: Self) -> Self:
        return type(self)(*(mine + more for mine, more in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: Self) -> Self:
        return type(self)(*(mine - less for mine, less in zip(astuple(self), astuple(other), strict=True)))

    def row(self, name: str | None, *, has_prices: bool) -> UsageRow:
        return UsageRow(
            name=name,
            calls=self.calls,
            succeeded=self.succeeded,
            avg_latency_ms=self.latency_us / (1000 * self.calls) if self.calls else 0.0,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            total_tokens=self.total_tokens,
            cost=self.cost / NANO if has_prices else None,
        )


_NAMES: dict[UsageGroup, Callable[[Cell], str]] = {
    UsageGroup.DAY: lambda cell: _moment(DAY.floor(cell.start)),
    UsageGroup.HOUR: lambda cell: _moment(HOUR.floor(cell.start)),
    UsageGroup.MODEL: lambda cell: cell.model,
    UsageGroup.TYPE: lambda cell: cell.type,
}


def _moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class UsageReader:
    def __init__(self, logs: InferenceLogs, members: Members) -> None:
        self._logs = logs
        self._members = members

    def rows(self, space_id: str, filters: LogFilters, by: UsageGroup, prices: SpaceLimits) -> list[UsageRow]:
        """Returns the usage of each group that has any."""
        if by is UsageGroup.USER:
            sums = self._by_user(space_id, filters, prices)
        else:
            cells: dict[str | None, list[Cell]] = defaultdict(list)
            for cell in self._logs.cells(space_id, filters):
                cells[_NAMES[by](cell)].append(cell)
            sums = ((name, Sums.of(found, prices)) for name, found in cells.items())
        rows = [each.row(name, has_prices=bool(prices.prices)) for name, each in sums if each.calls]
        if by in (UsageGroup.DAY, UsageGroup.HOUR):
            return sorted(rows, key=lambda row: row.name or "")
        return sorted(rows, key=lambda row: (row.cost or 0, row.total_tokens, row.calls), reverse=True)

    def _by_user(self, space_id: str, filters: LogFilters, prices: SpaceLimits) -> Iterator[tuple[str | None, Sums]]:
        def read(user: str | None) -> Sums:
            return Sums.of(self._logs.cells(space_id, replace(filters, user=user)), prices)

        others = read(filters.user)
        members = [each for each in self._members.user_ids(space_id) if filters.user in (None, each)]
        users = list(islice(members, MOST_MEMBERS))
        # Not in the readers of the logs, because each of these tasks waits for tasks of theirs.
        with BoundThreads(PARALLEL_READS) as pool:
            for user, sums in zip(users, pool.map(read, users), strict=True):
                others -= sums
                yield user, sums
        yield filters.user, others
