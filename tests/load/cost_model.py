"""What the API costs a month, and where it ends, at 1, 1,000 and 1,000,000 requests a minute.

``python -m tests.load.cost_model`` writes the tables into ``docs/cost_and_scale.md``; a test holds the page to them,
and the units of each operation to what the code asks DynamoDB for. Prices are list prices of us-east-1 in US dollars,
without free tiers, discounts and taxes, as of November 2025 (sources in the page).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.store.inference_logs import SHARDS as LOG_SHARDS

PAGE = Path(__file__).parents[2] / "docs" / "cost_and_scale.md"
RATES = (1, 1_000, 1_000_000)
MINUTES_A_MONTH = 730 * 60
MILLION = 1_000_000

# What a unit costs up to so many units a month, each step on top of the one before.
Tiers = Sequence[tuple[float, float]]
WITHOUT_END = float("inf")
LAMBDA_GB_SECONDS: Tiers = ((7.5e9, 0.0000133334), (18.75e9, 0.0000120001), (WITHOUT_END, 0.0000106667))
GATEWAY_REQUESTS: Tiers = ((333e6, 3.50e-6), (1e9, 2.80e-6), (20e9, 2.38e-6), (WITHOUT_END, 1.51e-6))
LOG_GIGABYTES: Tiers = ((10_000, 0.50), (30_000, 0.25), (50_000, 0.10), (WITHOUT_END, 0.05))
OUT_GIGABYTES: Tiers = ((10_000, 0.09), (50_000, 0.085), (150_000, 0.07), (WITHOUT_END, 0.05))
LAMBDA_REQUEST = 0.20e-6
READ_UNIT = 0.125e-6
WRITE_UNIT = 0.625e-6
TRACE = 5e-6
TRACED = 0.05

MEMORY_GB = 0.5
# DynamoDB takes so many units a second for one partition key.
PARTITION_WRITES = 1000
# Account quotas as they are before anybody asks for more.
GATEWAY_RATE = 10_000
LAMBDA_CONCURRENCY = 1_000
TABLE_WRITES = 40_000
STARTS_A_SECOND = 300


@dataclass(frozen=True)
class Operation:
    """One kind of request: its share of all, how long it takes, and what it makes DynamoDB do.

    ``followed`` is written later for it, by what follows the tables' streams.
    """

    share: float
    milliseconds: float
    reads: int
    writes: int
    followed: int = 0
    answer_kb: float = 1.0


# Times are assumptions: a few milliseconds of CPU and of DynamoDB each; a chat waits for its model.
OPERATIONS: Mapping[str, Operation] = {
    "get by id": Operation(0.60, 15, reads=1, writes=0),
    "list of 10": Operation(0.24, 20, reads=3, writes=0, answer_kb=6),
    "create": Operation(0.05, 40, reads=2, writes=4, followed=4),
    "update": Operation(0.05, 35, reads=2, writes=1, followed=4),
    "chat": Operation(0.06, 2_000, reads=1, writes=11, followed=18, answer_kb=3),
}


@dataclass(frozen=True)
class Ceiling:
    """What a space's writes of one kind ask of one partition key, or of ``keys`` that they are spread over."""

    partition: str
    units: int
    keys: int = 1

    @property
    def most(self) -> float:
        """So many a second, with a partition key's write units all used for it."""
        return PARTITION_WRITES * self.keys / self.units


CEILINGS: Mapping[str, Ceiling] = {
    "entities of one kind made": Ceiling("action#<space>", 2),
    "entities of one kind changed": Ceiling("action#<space>", 1),
    "chats begun": Ceiling("chat#<space>", 2),
    "rows of the audit log": Ceiling("audit#<space>", 1),
    "calls of models within a chat": Ceiling("log#<space>#<shard>", 2, LOG_SHARDS),
    "other calls of models": Ceiling("log#<space>#<shard>", 1, LOG_SHARDS),
    "calls of one model, or of one user": Ceiling("log_model#<space>#<model>#<shard>", 1, LOG_SHARDS),
    "calls under the space's limits": Ceiling("limit_usage#<space>", 2),
}
# A request's own line, the gateway's, and Lambda's START, END and REPORT.
LOG_KB = 1.5


def tiered(amount: float, tiers: Tiers) -> float:
    """The price of an amount."""
    price = below = 0.0
    for end, unit in tiers:
        price += max(0.0, min(amount, end) - below) * unit
        below = end
    return price


def mean(of: str) -> float:
    """A field of operations, averaged over the requests."""
    return sum(each.share * float(getattr(each, of)) for each in OPERATIONS.values())


def costs(rate: float) -> dict[str, float]:
    """Dollars a month at so many requests a minute."""
    requests = rate * MINUTES_A_MONTH
    seconds = requests * mean("milliseconds") / 1000
    return {
        "API Gateway": tiered(requests, GATEWAY_REQUESTS),
        "Lambda": tiered(seconds * MEMORY_GB, LAMBDA_GB_SECONDS) + requests * LAMBDA_REQUEST,
        "DynamoDB reads": requests * mean("reads") * READ_UNIT,
        "DynamoDB writes": requests * (mean("writes") + mean("followed")) * WRITE_UNIT,
        "CloudWatch Logs": tiered(requests * LOG_KB / 1e6, LOG_GIGABYTES),
        "X-Ray": requests * TRACED * TRACE,
        "Data out": tiered(requests * mean("answer_kb") / 1e6, OUT_GIGABYTES),
    }


def loads(rate: float) -> dict[str, tuple[float, float]]:
    """What the requests ask of each quota, and the quota."""
    a_second = rate / 60
    return {
        "requests a second (API Gateway)": (a_second, GATEWAY_RATE),
        "functions at once (Lambda; Little's law)": (a_second * mean("milliseconds") / 1000, LAMBDA_CONCURRENCY),
        "write units a second (DynamoDB)": (a_second * (mean("writes") + mean("followed")), TABLE_WRITES),
    }


def cost_table() -> str:
    priced = {rate: costs(rate) for rate in RATES}
    rows = [[name, *(_dollars(priced[rate][name]) for rate in RATES)] for name in priced[1]]
    totals = [sum(priced[rate].values()) for rate in RATES]
    rows.append(["**together**", *(f"**{_dollars(total)}**" for total in totals)])
    millions = [rate * MINUTES_A_MONTH / MILLION for rate in RATES]
    rows.append(["a million requests", *map(_dollars, (t / m for t, m in zip(totals, millions, strict=True)))])
    return _table(["US dollars a month", *(f"{rate:,} a minute" for rate in RATES)], rows)


def load_table() -> str:
    asked = {rate: loads(rate) for rate in RATES}
    rows = [
        [name, *(f"{_number(asked[rate][name][0])}" for rate in RATES), f"{quota:,.0f}"]
        for name, (_, quota) in asked[1].items()
    ]
    return _table(["", *(f"{rate:,} a minute" for rate in RATES), "quota of a new account"], rows)


def operation_table() -> str:
    rows = [
        [name, f"{each.share:.0%}", *map(str, (each.reads, each.writes, each.followed))]
        for name, each in OPERATIONS.items()
    ]
    return _table(["", "share", "read units", "write units", "written later"], rows)


def ceiling_table() -> str:
    rows = [
        [name, f"`{each.partition}`", str(each.units), str(each.keys), f"{each.most:,.0f} a second"]
        for name, each in CEILINGS.items()
    ]
    return _table(["in one space", "partition key", "write units", "such keys", "most"], rows)


TABLES = {"operations": operation_table, "ceilings": ceiling_table, "costs": cost_table, "loads": load_table}


def page(text: str) -> str:
    """The page with its tables as the model has them."""
    for name, make in TABLES.items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        text = f"{before}{begin}{make()}{end}{after}"
    return text


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _dollars(amount: float) -> str:
    return f"{amount:,.2f}" if amount < 10 else f"{amount:,.0f}"


def _number(amount: float) -> str:
    return f"{amount:,.2f}" if amount < 10 else f"{amount:,.0f}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
