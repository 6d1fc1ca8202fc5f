"""Every five minutes: each job that has not ended is compared with what AWS says of it, and leftovers are removed.

What a request left undone when it deleted or restored a space is done as well.
"""

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from typing import Any, Protocol

from functions.events.convergence import Convergence
from functions.events.evaluation_cleaner import EvaluationCleaner
from functions.events.training_cleaner import TrainingCleaner
from shared.arguments.leavers import Leavers
from shared.arguments.store import Arguments
from shared.chats.store import Chats
from shared.dynamodb.cleanup_list import CleanupList
from shared.jobs.store import Jobs
from shared.observability import logger, measure
from shared.resources import Resources
from shared.runs.kinds import runs_of_all_kinds
from shared.spaces.store import Spaces

# Describing a job is waiting for AWS.
CONCURRENCY = 16
# The workflow's own end of a job, and a few rounds of this, fit in between.
OVERDUE_AFTER = timedelta(hours=1)
# Kept free after the jobs for everything else, and at the end for what is under way.
CLEANING_SECONDS = 45
MARGIN_SECONDS = 15
_resources = Resources()


class Cleaner(Protocol):
    """Removes what is left of the entities on a cleanup list."""

    @property
    def purges(self) -> CleanupList: ...

    def clean(self, space_id: str, entity_id: str, /) -> None: ...


class ReconciliationError(Exception):
    """Some jobs could not be compared; the next round takes them up again."""


def reconcile_jobs(resources: Resources, seconds: float) -> int:
    """Compares all open jobs with AWS for at most ``seconds``. Returns their number.

    A round that does not reach all of them lets the next one begin with those that are left. Raises
    ReconciliationError when any could not be compared, after all others have been.
    """
    convergence, stored = Convergence(resources), Jobs(resources.table, resources.clock)
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        open_jobs = stored.open_jobs_in_turn()
        now = resources.clock()
        overdue = [each for each in open_jobs if now - each.opened_at > each.kind.longest + OVERDUE_AFTER]
        measure("OverdueJobs", [sum(not each.has_ended for each in overdue)])
        jobs = {pool.submit(convergence.converge, job): job for job in open_jobs}
        _, late = wait(jobs, timeout=seconds)
        for future in late:
            future.cancel()
    stored.begin_next_turn_with(next((job.id for future, job in jobs.items() if future in late), None))
    failed = len(late)
    for future in jobs.keys() - late:
        if error := future.exception():
            failed += 1
            logger.error("a job could not be reconciled", exc_info=error, extra=jobs[future].execution_input)
    logger.info("reconciled", extra={"jobs": len(jobs), "failed": failed})
    if failed:
        raise ReconciliationError(f"{failed} of {len(jobs)} jobs could not be reconciled")
    return len(jobs)


def clean_up(resources: Resources, seconds: float = math.inf) -> None:
    """Removes the remaining data of deleted entities for about ``seconds``. Each kind gets a part of the time.

    The kinds with the most data are the last. One entity that fails leaves the others their turn.
    """
    cleaners: Sequence[Cleaner] = (
        Leavers(resources.table, resources.clock),
        resources.token_cleaner,
        resources.large_values,
        Arguments(resources.table, resources.clock),
        Chats(resources.table, resources.large_values, resources.clock),
        TrainingCleaner(resources),
        EvaluationCleaner(resources),
        *map(resources.run_cleaner, runs_of_all_kinds(resources.table, resources.clock).values()),
        resources.connector_cleaner,
    )
    ends_at = time.monotonic() + seconds
    for number, cleaner in enumerate(cleaners):
        now = time.monotonic()
        until = now + (ends_at - now) / (len(cleaners) - number)
        for purge in cleaner.purges.due():
            if time.monotonic() > until:
                break
            try:
                cleaner.clean(purge.space_id, purge.entity_id)
            except Exception:  # noqa: BLE001 - an entity that fails must not stop the others
                logger.exception("leftovers remain: the next round takes them up", extra={"id": purge.entity_id})


def move_memberships(resources: Resources, seconds: float = math.inf) -> None:
    """Lets the memberships of deleted and restored spaces follow, as far as they have not, for about ``seconds``."""
    spaces, ends_at = Spaces(resources.table, resources.clock), time.monotonic() + seconds
    for space_id in spaces.with_pending_moves():
        if time.monotonic() > ends_at:
            return
        try:
            spaces.move_memberships(space_id)
        except Exception:  # noqa: BLE001 - a space that fails must not stop the others
            logger.exception("memberships remain: the next round takes them up", extra={"space_id": space_id})


@logger.inject_lambda_context
def handler(_event: dict[str, Any], context: Any) -> None:
    def remaining() -> float:
        return float(context.get_remaining_time_in_millis()) / 1000 - MARGIN_SECONDS

    try:
        reconcile_jobs(_resources, remaining() - CLEANING_SECONDS)
    finally:
        try:
            # Before the clean-up, because it takes less time and users wait for it.
            move_memberships(_resources, remaining() / 2)
        finally:
            clean_up(_resources, remaining())
