"""Leaves rows out of finished parts: those about a customer of an earlier row, or of somebody who was erased."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from functions.workflows.repeats import Repeats, find_repeats
from shared.insights.store import InsightPolicies
from shared.models.client_key import ClientName
from shared.models.insight import InsightPolicy
from shared.models.prediction import SHOWN_REPEATS
from shared.models.run import PARTS, PartResult, Run
from shared.resources import Resources
from shared.runs.plans import CUSTOMERS

# Beyond, the disk does not hold the customers, nor one call of a function the work.
COMPARED_ROWS = 200_000_000


@dataclass(frozen=True)
class LeavingOut:
    """The parts of one run."""

    resources: Resources
    space_id: str
    run: Run
    results: Sequence[PartResult]

    def repeats(self) -> Repeats | None:
        """Returns which rows are about a customer of an earlier row, unless there are too many rows."""
        if sum(result.rows_written for result in self.results) > COMPARED_ROWS:
            return None
        tasks = self.resources.run_plans.tasks(self.space_id, self.run.work_id)
        return find_repeats(self.results, tasks, lambda number: self._read(number, CUSTOMERS), SHOWN_REPEATS)

    def kept(self, repeats: Repeats | None, erased: frozenset[str]) -> list[PartResult]:
        """Writes parts without the rows to leave out, beside the finished ones. Returns the results of all parts."""
        policy = InsightPolicies(self.resources.table, self.resources.clock).get(self.space_id) if erased else None
        start, kept = 0, []
        for result in self.results:
            is_first = repeats.is_first[start : start + result.rows_written] if repeats else None
            start += result.rows_written
            if policy is None and (is_first is None or is_first.all()):
                kept.append(result)
                continue
            table = self._read(result.number, PARTS)
            is_kept = np.ones(table.height, dtype=np.bool_) if is_first is None else is_first
            if policy is not None:
                is_kept = is_kept & [not _is_one_of(key, policy, erased) for key in table["client_key"]]
            kept.append(result if is_kept.all() else self._rewritten(result, table.filter(pl.Series(is_kept))))
        return kept

    def _read(self, number: int, folder: str) -> pl.DataFrame:
        plans = self.resources.run_plans
        key = plans.part_key(self.space_id, self.run.work_id, number, folder)
        return pl.read_parquet(io.BytesIO(self.resources.s3.get_object(Bucket=plans.bucket, Key=key)["Body"].read()))

    def _rewritten(self, result: PartResult, table: pl.DataFrame) -> PartResult:
        plans, buffer = self.resources.run_plans, io.BytesIO()
        table.write_parquet(buffer, compression="zstd", statistics=True)
        content = buffer.getvalue()
        # A run that was stopped may still write to its own folder beside a restart.
        folder = f"kept/{self.run.id}"
        key = plans.part_key(self.space_id, self.run.work_id, result.number, folder)
        self.resources.s3.put_object(Bucket=plans.bucket, Key=key, Body=content)
        changes = {"rows_written": table.height, "size_bytes": len(content), "folder": folder}
        return result.model_copy(update=changes)


def _is_one_of(text: str | None, policy: InsightPolicy, erased: frozenset[str]) -> bool:
    """Returns whether a text names one of the customers, by a rule of the policy."""
    if text is None:
        return False
    keys = (rule.key_of(text) for rule in policy.client_keys)
    return any(key and ClientName("client_key", key).digest in erased for key in keys)
