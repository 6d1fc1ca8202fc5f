"""Compares the logged calls of language models with the calls that were made, and with the use of limits."""

from typing import Any

import boto3

from tests.faults.emulated_platform import EmulatedPlatform
from tests.faults.stored_items import StoredItems, read_items
from tests.fixtures.aws import LOGS_TABLE, TABLE

# Limits that count, and refuse nothing.
PLENTY = {"requests_per_minute": 10**6, "tokens_per_month": 10**9, "cost_per_day": 10**6, "concurrent_calls": 100}


def wrong_logs(platform: EmulatedPlatform, space_id: str, *, is_exact: bool) -> list[str]:
    """Compares the logged calls that have tokens with the calls of the model. A killed worker logs none."""
    logged = sum(row["total_tokens"] > 0 for row in _rows(space_id))
    made = len(platform.upstream.calls())
    if logged == made or (not is_exact and logged < made):
        return []
    return [f"{logged} calls are logged, {made} were made"]


def wrong_limits(space_id: str, *, is_exact: bool) -> list[str]:
    """Compares the tokens in the space's limits with the tokens of the logged calls.

    A killed worker keeps its reservation until that expires, and its use is not counted.
    """
    [usage] = StoredItems(read_items(boto3.client("dynamodb"), TABLE)).partitions[f"limit_usage#{space_id}"].values()
    reserved = [held.split() for name, held in usage.items() if name.startswith("held#")]
    counted = usage["tokens_per_month"] - sum(int(tokens) for _, _, tokens, _ in reserved)
    logged = sum(row["total_tokens"] for row in _rows(space_id))
    wrong = []
    if counted != logged and (is_exact or not 0 <= counted < logged):
        wrong.append(f"the limits count {counted} tokens, the logged calls have {logged}")
    if usage["concurrent_calls"] != len(reserved) or (is_exact and reserved):
        wrong.append(f"the limits count {usage['concurrent_calls']} calls and have {len(reserved)} reservations")
    return wrong


def _rows(space_id: str) -> list[dict[str, Any]]:
    logs = read_items(boto3.client("dynamodb"), LOGS_TABLE)
    return [item for item in logs if item["PK"].startswith(f"log#{space_id}#")]
