"""Stores an index of all jobs by id, and a list of open jobs.

Webhooks and events of AWS need the index, because they have a job's id but not its space. The reconciler needs the
list. The transaction that creates a job writes both entries; the transaction that ends the job removes it from the
list. A succeeded training stays on the list until its due evaluations have been created.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime

from boto3.dynamodb.conditions import Attr
from boto3.dynamodb.conditions import Key as KeyCondition

from shared.clock import Clock, utc_now
from shared.dynamodb.repository import is_identifier
from shared.dynamodb.table import ConditionFailedError, Item, Key, Table, Write, delete, put, update
from shared.models.base import format_timestamp, parse_timestamp
from shared.models.evaluation import DueEvaluation
from shared.models.job_reference import JobKind, JobReference

OPEN = "job#open"
# Names the job with which the next round of the reconciler begins.
TURN = Key("job#turn", "next")


class Jobs:
    """The index of all jobs, with the list of open jobs."""

    def __init__(self, table: Table, clock: Clock = utc_now) -> None:
        self._table = table
        self._clock = clock

    def open(self, kind: JobKind, space_id: str, job_id: str, *, parent_id: str | None = None) -> list[Write]:
        """Returns the writes that add a job to the index and to the list of open jobs."""
        values = {"kind": kind, "space_id": space_id, "parent_id": parent_id, "opened_at": self._clock()}
        return [put(_pointer(job_id), values), put(Key(OPEN, job_id), values)]

    def close(self, job_id: str) -> Write:
        """Returns the write that removes an ended job from the list of open jobs. The index keeps the job."""
        return delete(Key(OPEN, job_id))

    def leave_due(self, space_id: str, training_id: str, due: Sequence[DueEvaluation]) -> Write:
        """Returns the write that keeps an ended training open, or reopens it, with its due evaluations."""
        values = {"kind": JobKind.TRAINING, "space_id": space_id, "opened_at": self._clock(), "due": due}
        return put(Key(OPEN, training_id), values)

    def due(self, training_id: str) -> list[DueEvaluation]:
        """Returns the due evaluations of a training. Some of them may already have been created."""
        item = self._table.get(Key(OPEN, training_id)) or {}
        return [DueEvaluation.model_validate(each) for each in item.get("due", ())]

    def close_when_created(self, training_id: str, due: Sequence[DueEvaluation]) -> None:
        """Closes a training after these evaluations were created, unless other evaluations have become due."""
        nothing_else = Attr("due").eq(due) if due else Attr("due").not_exists()
        with suppress(ConditionFailedError):
            self._table.write(delete(Key(OPEN, training_id), nothing_else))

    def retire(self, job_id: str, until: datetime) -> list[Write]:
        """Returns the writes that close the job of a deleted entity and let its index entry expire."""
        return [update(_pointer(job_id), {"expires_at": int(until.timestamp())}), self.close(job_id)]

    def find(self, job_id: str) -> JobReference | None:
        """Returns an open or ended job, or ``None`` if no job has this id."""
        item = self._table.get(_pointer(job_id)) if is_identifier(job_id) else None
        return _reference(item, job_id) if item else None

    def wait_in_line(self, job_id: str, machines: Iterable[str], until: datetime) -> None:
        """Notes which machines an open job waits for, until a time. A job that has ended is left as it is."""
        values = {"machines": sorted(machines), "in_line_until": until}
        with suppress(ConditionFailedError):
            self._table.write(update(Key(OPEN, job_id), values, condition=Attr("PK").exists()))

    def wanted_before(self, job_id: str) -> set[str]:
        """Returns the machines that open jobs wait for which were requested before this one."""
        older, waiting = KeyCondition("SK").lt(job_id), Attr("in_line_until").gt(format_timestamp(self._clock()))
        found = self._table.query(OPEN, condition=older, filter=waiting, newest_first=False, attributes=["machines"])
        return {machine for item in found for machine in item["machines"]}

    def open_jobs(self, space_id: str | None = None) -> Iterator[JobReference]:
        """Yields the open jobs, or the open jobs of one space, oldest first."""
        wanted = Attr("space_id").eq(space_id) if space_id is not None else None
        for item in self._table.query(OPEN, newest_first=False, filter=wanted):
            yield _reference(item, item["SK"])

    def open_jobs_in_turn(self) -> list[JobReference]:
        """Returns the open jobs, oldest first. Those before the first one that the last round has left come last."""
        jobs = list(self.open_jobs())
        first = (self._table.get(TURN) or {}).get("job_id", "")
        return [job for job in jobs if job.id >= first] + [job for job in jobs if job.id < first]

    def begin_next_turn_with(self, job_id: str | None) -> None:
        """Notes the first job that a round has not reached; ``None`` if it has reached all of them."""
        self._table.write(put(TURN, {"job_id": job_id}) if job_id else delete(TURN))


def _pointer(job_id: str) -> Key:
    return Key(f"job#{job_id}", job_id)


def _reference(item: Item, job_id: str) -> JobReference:
    opened_at: datetime = parse_timestamp(item["opened_at"])
    kind, parent_id = JobKind(item["kind"]), item.get("parent_id")
    return JobReference(kind, item["space_id"], job_id, opened_at, parent_id, has_ended="due" in item)
