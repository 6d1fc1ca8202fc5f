"""Compares all data that is stored more than once with its source.

The checks use the layout of the store's keys, but none of its arithmetic. In a table in use, changes in progress may
appear as problems.
"""

from collections.abc import Callable

from tests.faults import entity_checks, insight_checks, job_checks, log_checks, object_checks, run_checks
from tests.faults.stored_items import Problems, StoredItems

CHECKS: tuple[Callable[[StoredItems], Problems], ...] = (
    entity_checks.unreadable,
    entity_checks.counters,
    entity_checks.members,
    entity_checks.api_keys,
    entity_checks.invites,
    entity_checks.persona_keys,
    entity_checks.expert_versions,
    entity_checks.uploads,
    entity_checks.webhook_endpoints,
    entity_checks.remaining_data,
    job_checks.references,
    job_checks.jobs,
    run_checks.folders,
    run_checks.parts,
    run_checks.files,
    run_checks.contacts,
    job_checks.running_jobs,
    job_checks.evaluations,
    job_checks.scans,
    job_checks.scores,
    job_checks.aliases,
    insight_checks.reactions,
    insight_checks.arguments,
    log_checks.audit_log,
    log_checks.audit_chains,
    log_checks.audited_writes,
    log_checks.rollups,
    object_checks.spaces,
    object_checks.owners,
    object_checks.jobs,
)


def find_problems(items: StoredItems) -> list[str]:
    """Returns a message with the item's name for every difference."""
    return [problem for check in CHECKS for problem in check(items)]
