"""Removes the rows of customers from finished parts, who were erased while their run worked."""

import io
from collections.abc import Sequence
from typing import Any

import polars as pl

from shared.insights.store import InsightPolicies
from shared.models.client_key import ClientName
from shared.models.insight import InsightPolicy
from shared.models.run import PartResult, Run
from shared.resources import Resources


def leave_out(
    resources: Resources, space_id: str, run: Run, results: Sequence[PartResult], erased: frozenset[str]
) -> list[PartResult]:
    """Rewrites the parts that have rows of these customers. Returns the results of all parts. Safe to repeat."""
    policy = InsightPolicies(resources.table, resources.clock).get(space_id)
    plans = resources.run_plans

    def rewritten(result: PartResult) -> PartResult:
        place: dict[str, Any] = {"Bucket": plans.bucket, "Key": plans.part_key(space_id, run.work_id, result.number)}
        content = resources.s3.get_object(**place)["Body"].read()
        table = pl.read_parquet(io.BytesIO(content))
        kept = table.filter(
            pl.Series([not _is_one_of(key, policy, erased) for key in table["client_key"]], dtype=pl.Boolean)
        )
        if kept.height < table.height:
            buffer = io.BytesIO()
            kept.write_parquet(buffer, compression="zstd", statistics=True)
            content = buffer.getvalue()
            resources.s3.put_object(**place, Body=content)
        # A repeated step finds the part without the rows, and counts what is there.
        return result.model_copy(update={"rows_written": kept.height, "size_bytes": len(content)})

    return [rewritten(result) for result in results]


def _is_one_of(text: str | None, policy: InsightPolicy, erased: frozenset[str]) -> bool:
    """Returns whether a text names one of the customers, by a rule of the policy."""
    if text is None:
        return False
    keys = (rule.key_of(text) for rule in policy.client_keys)
    return any(key and ClientName("client_key", key).digest in erased for key in keys)
