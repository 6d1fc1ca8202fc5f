"""Checks of the audit log and of the inference logs' rollups."""

import json
from collections import Counter, defaultdict
from itertools import product

from shared.dynamodb.table import Item
from tests.faults.stored_items import Problems, StoredItems

LEVELS = {"day": 86_400_000, "hour": 3_600_000, "minute": 60_000}
# Deliveries of webhooks are written after the stream of a test is read.
UNAUDITED = {"webhook_delivery", "webhook_endpoint"}
TOTALS = ("calls", "input_tokens", "output_tokens", "total_tokens", "latency_us")


def audit_log(items: StoredItems) -> Problems:
    """Finds rows that are not stored once with a copy for each of the four or six lists that they are in."""
    rows: Counter[tuple[str, str]] = Counter()
    copies: Counter[tuple[str, str]] = Counter()
    wanted: dict[tuple[str, str], int] = {}
    for rest, sk, item in items.under("audit"):
        if rest.endswith(("#chain", "#head")):
            continue
        wanted[rest.partition("#")[0], sk] = 6 if "api_key_id" in item else 4
        (copies if "#" in rest else rows)[rest.partition("#")[0], sk] += 1
    for row in {*rows, *copies}:
        if (rows[row], copies[row]) != (1, wanted[row]):
            yield f"audit row {row}: {rows[row]} and {copies[row]} copies, not 1 and {wanted[row]}"


def audit_chains(items: StoredItems) -> Problems:
    """Finds chains with a gap, with a wrong hash of the row before, or with another end than the recorded one."""
    chains: defaultdict[str, dict[int, Item]] = defaultdict(dict)
    listed: defaultdict[str, dict[int, str]] = defaultdict(dict)
    ends: dict[str, tuple[int, str]] = {}
    for rest, sk, item in items.under("audit"):
        space_id, _, part = rest.partition("#")
        if part == "chain":
            listed[space_id][int(sk)] = item["id"]
        elif part == "head":
            ends[space_id] = (item["sequence"], item["hash"])
        elif not part:
            chains[space_id][item["sequence"]] = item
    for space_id, rows in chains.items():
        places = range(1, len(rows) + 1)
        if sorted(rows) != [*places] or listed[space_id] != {each: rows[each]["id"] for each in rows}:
            yield f"the audit chain of {space_id} has gaps: {sorted(rows)}"
            continue
        before = ["", *(rows[each]["hash"] for each in places)]
        if before[:-1] != [rows[each]["previous_hash"] for each in places] or ends[space_id] != (len(rows), before[-1]):
            yield f"the audit chain of {space_id} does not hold together"


def audited_writes(items: StoredItems) -> Problems:
    """Finds last writes and deletions of entities without a row, if the log is in use."""
    rows = {(rest, sk): item["action"] for rest, sk, item in items.under("audit") if "#" not in rest}
    if not rows:
        return
    written = {sk for _, sk in rows}
    for item in items.entities:
        kind, _, owner = item["PK"].partition("#")
        if kind in UNAUDITED or owner.endswith("#hidden"):
            continue
        marker = item.get("removed_by" if kind == "removal" else "written_by", "")
        write_id = marker.rpartition("#")[2]
        if marker and write_id not in written:
            yield f"the last write of {item['PK']} {item['SK']} has no row in the audit log"
    for rest, sk, item in items.under("removal"):
        write_id = item["removed_by"].rpartition("#")[2]
        actions = {action for (_, row), action in rows.items() if row == write_id}
        if actions != {"deleted"}:
            yield f"the deletion of {sk} of {rest} is in the audit log as {sorted(actions)}"


def rollups(items: StoredItems) -> Problems:
    """Compares each rollup with the sum of its calls."""
    wanted: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    found: dict[tuple[str, str], Counter[str]] = {}
    counted = {item["SK"] for item in items.logs if item["PK"].startswith("log_counted#")}
    for item in items.logs:
        kind, space_id, *_ = item["PK"].split("#")
        if kind == "log_rollup":
            found[item["PK"], item["SK"]] = Counter({name: item[name] for name in TOTALS})
        elif kind == "log":
            if item["SK"] not in counted:
                yield f"the call {item['SK']} is in no rollup"
            time = int(item["SK"].replace("-", "")[:12], 16)
            tokens = {name: item[name] for name in TOTALS[1:4]}
            totals = Counter({"calls": 1, **tokens, "latency_us": round(item["latency_ms"] * 1000)})
            slices = product((None, item["user"]), (None, *item["tags"]), LEVELS.items())
            for user, tag, (level, width) in slices:
                pk = f"log_rollup#{space_id}#{json.dumps([user, tag], ensure_ascii=False)}"
                sk = f"{level}#{time - time % width:013d}#{item['type']}#{item['status']}#{item['model']}"
                wanted[pk, sk] += totals
    for place in {*wanted, *found}:
        if +wanted.get(place, Counter()) != +found.get(place, Counter()):
            yield f"{place}: the rollup is {found.get(place)}, the calls' sum is {wanted.get(place)}"
