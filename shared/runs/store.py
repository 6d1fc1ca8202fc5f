"""Stores runs and their finished parts. Statuses only move forward, and each part counts once.

The parts of a run are under ``<kind>_part#<space>#<work id>``: an item for each finished part, one with the sums of
all, and one for each part with refused rows or a problem. A restart is another run with the same work id, so it finds
the parts that are finished. What is left of a run that has ended is on the cleanup list ``<kind>#purges``
(see ``cleaning``). Its folder is taken until then (see ``folders``).
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from boto3.dynamodb.conditions import Attr
from boto3.dynamodb.conditions import Key as KeyCondition

from shared.clock import Clock, utc_now
from shared.dynamodb.reference_counts import add_reference, remove_reference
from shared.dynamodb.repository import Idempotency, Modification, Repository
from shared.dynamodb.table import (
    Key,
    Table,
    TransactionFailedError,
    Write,
    delete,
    put,
    repeat_on_conflict,
    update,
)
from shared.errors import ConflictError, JobFailedError, ValidationFailedError
from shared.insights.ledger import released
from shared.jobs.store import Jobs
from shared.models.job_reference import JobKind, JobReference
from shared.models.job_status import JobStatus
from shared.models.run import SHOWN_REFUSED_ROWS, PartResult, RowRefusal, Run, RunProgress
from shared.runs.engines import cost_usd
from shared.runs.plans import KEPT
from shared.space_usage.jobs import TOO_MANY_AT_ONCE, JobPlace, JobUsages

if TYPE_CHECKING:
    from shared.dynamodb.cleanup_list import CleanupList
    from shared.models.job_limits import JobLimits
    from shared.runs.folders import OutputFolders

R = TypeVar("R", bound=Run)


class _RestartedError(ConflictError):
    """Error raised when another call has restarted the run."""

    def __init__(self) -> None:
        super().__init__("The run was restarted.")


_BUSY_FOLDERS = "Too many runs take and give back folders of the same connector now."
_TOTALS = "totals"
_PART, _REFUSED, _PROBLEM = "part#", "refused#", "problem#"
_REASON = "reason#"


class Runs(Generic[R]):
    """The runs of one kind, of all spaces."""

    def __init__(self, table: Table, model: type[R], kind: JobKind, clock: Clock = utc_now) -> None:
        self.kind = kind
        self.model = model
        self.repository = Repository(table, model, kind=kind.value, clock=clock)
        self.jobs = Jobs(table, clock)
        self._usages = JobUsages(table, clock)
        self._table = table
        self._clock = clock

    @cached_property
    def purges(self) -> "CleanupList":
        """Returns the list of runs that have ended, and may have left something."""
        # Most requests end no run and take no folder, and every import makes a cold start longer.
        from shared.dynamodb.cleanup_list import CleanupList

        return CleanupList(self._table, self.kind.value, self._clock)

    @cached_property
    def _folders(self) -> "OutputFolders":
        from shared.runs.folders import OutputFolders

        return OutputFolders(self._table)

    def reference(self, space_id: str, run: Run) -> JobReference:
        """Returns the reference by which the run's workflow is started and stopped."""
        return JobReference(self.kind, space_id, run.id, run.created_at)

    def create(
        self,
        space_id: str,
        run: R,
        idempotency: Idempotency | None,
        limits: "JobLimits",
        also: Sequence[Write] = (),
    ) -> R:
        """Stores a run, takes its output folder and opens its job.

        Raises ValidationFailedError for an unknown connector, ConflictError if another run writes to the folder, and
        LimitReachedError.
        """
        writes = [
            *also,
            *(add_reference(key, _unknown(key.sk)) for key in _connectors(space_id, run)),
            *self.jobs.open(self.kind, space_id, run.id),
        ]

        def step() -> R:
            taken = self._folders.take(space_id, run)
            reservation = self._usages.reserve(JobPlace(space_id, self.kind, run.id), limits)
            return self.repository.create(space_id, run, idempotency=idempotency, also=[*writes, *taken, reservation])

        return repeat_on_conflict(step, TOO_MANY_AT_ONCE, (TransactionFailedError,))

    def start(self, space_id: str, run_id: str) -> R:
        """Sets the status to ``running``, unless the run runs or has ended. Raises NotFoundError."""

        def decide(run: R) -> Modification | None:
            if not run.status.may_become(JobStatus.RUNNING):
                return None
            return Modification({"status": JobStatus.RUNNING, "started_at": self._clock()})

        return self.repository.modify(space_id, run_id, decide)

    def end(
        self, space_id: str, run_id: str, status: JobStatus, values: dict[str, Any], *, unless_publishing: bool = False
    ) -> R:
        """Sets a final status, and releases connectors, folder and, without success, reserved contacts.

        A run that has ended, or publishes and is to be left alone then, stays as it is. Raises NotFoundError.
        """

        def decide(run: R) -> Modification | None:
            if run.status.is_final or (unless_publishing and run.is_publishing):
                return None
            also = [
                *(remove_reference(key) for key in _connectors(space_id, run)),
                *self._folders.give_back(space_id, run),
                self.jobs.close(run.id),
                self.purges.note(space_id, run.id),
                *self._usages.release(JobPlace(space_id, self.kind, run.id), 0),
            ]
            if self.kind is JobKind.DECISION_RUN and status is not JobStatus.SUCCEEDED:
                also.append(released(space_id, run.id, self._clock()))
            progress = self.progress(space_id, run).model_copy(update={"seconds_left": None})
            ended = {"status": status, "ended_at": self._clock(), "progress": progress, **values}
            return Modification(ended, also)

        return self.repository.modify(space_id, run_id, decide)

    def stop(self, space_id: str, run_id: str) -> R:
        """Sets the status to ``stopped``. Raises NotFoundError, and ConflictError for a run that can't be stopped."""
        stopped = {"error": "A member stopped it. A restart goes on with its finished parts."}
        ended = self.end(space_id, run_id, JobStatus.STOPPED, stopped, unless_publishing=True)
        if ended.status is not JobStatus.STOPPED:
            state = f"has {ended.status}" if ended.status.is_final else "publishes its output just now"
            raise ConflictError(f"The run can't be stopped any more: it {state}.")
        return ended

    def require_parts(self, run: R) -> None:
        """Raises ConflictError for a run with whose parts nobody can go on."""
        if not (run.status.is_final and run.status is not JobStatus.SUCCEEDED):
            raise ConflictError(f"The run is {run.status}. Only a run that has failed or was stopped can go on.")
        if self._clock() - run.work_began_at > KEPT:
            raise ConflictError(f"The finished parts were kept for {KEPT.days} days. Start another run.")
        if not run.has_parts:
            raise ConflictError("The finished parts were deleted, because a customer was erased. Start another run.")

    def restart(self, space_id: str, run: R, user_id: str, run_id: str, limits: "JobLimits") -> R:
        """Stores a run that goes on with the work of one that failed or was stopped. Returns the one that ended.

        Of two calls at the same time, the first one counts. Raises ConflictError if another run writes to the folder,
        and LimitReachedError.
        """
        now = self._clock()
        renewed = {
            "id": run_id,
            "created_at": now,
            "updated_at": now,
            "created_by": user_id,
            "status": JobStatus.PENDING,
            "restarted_from": run.id,
            "restarted_as": None,
            "error": None,
            "started_at": None,
            "ended_at": None,
            "progress": RunProgress(),
            "is_publishing": False,
            "version": 1,
        }
        first = Attr("restarted_as").not_exists() & Attr("has_parts").ne(False)
        link = self.repository.update_write(space_id, run.id, {"restarted_as": run_id}, condition=first)
        try:
            new = run.model_copy(update=renewed)
            self.create(space_id, new, None, limits, [replace(link, error=_RestartedError())])
        except ConflictError:
            # The first call may have taken the folder.
            if (current := self.repository.get(space_id, run.id)).restarted_as is None:
                raise
            return current
        return self.repository.get(space_id, run.id)

    def end_restarts(self, space_id: str, run_id: str) -> bool:
        """Notes that nobody can go on with the parts of a run. Returns ``False`` if somebody has."""

        def decide(run: R) -> Modification | None:
            return Modification({"has_parts": False}) if run.restarted_as is None and run.has_parts else None

        return not self.repository.modify(space_id, run_id, decide).has_parts

    def take_folder(self, space_id: str, run: R) -> bool:
        """Takes the folder of a run that has ended. Returns whether no other run has it, or one that overlaps."""

        def step() -> bool:
            try:
                self._table.transact(self._folders.take(space_id, run))
            except ConflictError:
                return False
            return True

        return repeat_on_conflict(step, _BUSY_FOLDERS)

    def give_folder_back(self, space_id: str, run: R) -> None:
        """Gives the folder of a run back."""

        def step() -> None:
            if writes := self._folders.give_back(space_id, run):
                self._table.transact(writes)

        repeat_on_conflict(step, _BUSY_FOLDERS)

    def begin_publishing(self, space_id: str, run_id: str) -> bool:
        """Notes that files are about to appear in the folder. Returns whether that was noted before.

        Raises JobFailedError for a run that has ended.
        """
        was_noted = False

        def decide(run: R) -> Modification | None:
            nonlocal was_noted
            if run.status.is_final:
                raise JobFailedError(f"The run has {run.status} already.")
            was_noted = run.is_publishing
            return None if was_noted else Modification({"is_publishing": True})

        self.repository.modify(space_id, run_id, decide)
        return was_noted

    def end_publishing(self, space_id: str, run_id: str) -> None:
        """Notes that no file of the output is in its folder."""
        self.repository.modify(space_id, run_id, lambda _: Modification({"is_publishing": False}))

    def has_ended(self, space_id: str, run_id: str) -> bool:
        """Returns whether nobody waits for the run's parts any more."""
        item = self._table.get(self.repository.key(space_id, run_id))
        return item is None or JobStatus(item["status"]).is_final

    # Parts

    def record(self, space_id: str, work_id: str, result: PartResult) -> None:
        """Stores a finished part. Of a part that was recorded before, nothing changes."""
        stored = result.model_dump_json(exclude={"refused_rows"})
        reasons = {f"{_REASON}{reason}": count for reason, count in result.refused.items()}
        sums = {
            "parts": 1,
            "rows_read": result.rows_read,
            "rows_written": result.rows_written,
            "milliseconds": round(result.seconds * 1000),
            **reasons,
        }
        place = f"{result.number:06d}"
        refused = [row.model_dump() for row in result.refused_rows]
        writes = [
            put(self._key(space_id, work_id, f"{_PART}{place}"), {"result": stored}, Attr("PK").not_exists()),
            update(self._key(space_id, work_id, _TOTALS), {}, add=sums),
            delete(self._key(space_id, work_id, f"{_PROBLEM}{place}")),
        ]
        if refused:
            writes.append(put(self._key(space_id, work_id, f"{_REFUSED}{place}"), {"rows": json.dumps(refused)}))
        with suppress(TransactionFailedError):
            self._table.transact(writes)

    def forget_parts(self, space_id: str, work_id: str) -> None:
        """Removes what is stored about the parts of a run. Its own progress stays."""
        items = self._table.query(self._key(space_id, work_id, _TOTALS).pk, attributes=("PK", "SK"))
        self._table.delete_all([Key(item["PK"], item["SK"]) for item in items])

    def note_problem(self, space_id: str, work_id: str, number: int, problem: str) -> None:
        """Stores why a part failed the last time."""
        key = self._key(space_id, work_id, f"{_PROBLEM}{number:06d}")
        self._table.write(put(key, {"problem": problem}))

    def problems(self, space_id: str, work_id: str) -> dict[int, str]:
        """Returns the last problem of each part that has one, by its number."""
        return {
            int(item["SK"].removeprefix(_PROBLEM)): item["problem"] for item in self._rows(space_id, work_id, _PROBLEM)
        }

    def finished(self, space_id: str, work_id: str, numbers: Sequence[int] | None = None) -> dict[int, PartResult]:
        """Returns the results of the finished ones of these parts, or of all, without their refused rows."""
        if numbers is None:
            items = self._rows(space_id, work_id, _PART)
        else:
            keys = [self._key(space_id, work_id, f"{_PART}{number:06d}") for number in numbers]
            items = iter(self._table.get_many(keys).values())
        results = (PartResult.model_validate_json(item["result"]) for item in items)
        return {result.number: result for result in results}

    def rows_refused(self, space_id: str, work_id: str) -> int:
        """Returns how many rows the finished parts have refused."""
        return sum(_reasons(self._totals(space_id, work_id)).values())

    def progress(self, space_id: str, run: Run) -> RunProgress:
        """Returns how far a run is."""
        if run.status.is_final:
            return run.progress
        totals = self._totals(space_id, run.work_id)
        reasons = _reasons(totals)
        progress = RunProgress(
            parts=totals.get("parts", 0),
            rows_read=totals.get("rows_read", 0),
            rows_written=totals.get("rows_written", 0),
            rows_refused=sum(reasons.values()),
            refused=reasons,
            refused_rows=self._refused_rows(space_id, run.work_id) if reasons else [],
        )
        if run.started_at is not None:
            seconds = max((self._clock() - run.started_at).total_seconds(), 0.001)
            progress.rows_per_second = round(progress.rows_read / seconds, 1)
            if progress.rows_read:
                progress.seconds_left = round(max(run.rows - progress.rows_read, 0) / progress.rows_read * seconds)
        progress.cost_usd = cost_usd(run, totals.get("milliseconds", 0) / 1000)
        return progress

    def _refused_rows(self, space_id: str, work_id: str) -> list[RowRefusal]:
        found: list[RowRefusal] = []
        for item in self._rows(space_id, work_id, _REFUSED):
            found += [RowRefusal.model_validate(row) for row in json.loads(item["rows"])]
            if len(found) >= SHOWN_REFUSED_ROWS:
                break
        return found[:SHOWN_REFUSED_ROWS]

    def _totals(self, space_id: str, work_id: str) -> dict[str, Any]:
        return self._table.get(self._key(space_id, work_id, _TOTALS)) or {}

    def _rows(self, space_id: str, work_id: str, prefix: str) -> Iterator[dict[str, Any]]:
        partition = self._key(space_id, work_id, prefix).pk
        return self._table.query(partition, condition=KeyCondition("SK").begins_with(prefix), newest_first=False)

    def _key(self, space_id: str, work_id: str, place: str) -> Key:
        return Key(f"{self.kind}_part#{space_id}#{work_id}", place)


def _connectors(space_id: str, run: Run) -> list[Key]:
    ids = dict.fromkeys((run.connector_id, *([run.output.connector_id] if run.output else [])))
    return [Key(f"connector#{space_id}", each) for each in ids]


def _unknown(connector_id: str) -> ValidationFailedError:
    return ValidationFailedError.of("body.connector_id", f"there is no connector '{connector_id}' in the space")


def _reasons(totals: dict[str, Any]) -> dict[str, int]:
    return {name.removeprefix(_REASON): count for name, count in totals.items() if name.startswith(_REASON)}
