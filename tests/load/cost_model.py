"""A model of the API's monthly costs and limits at 1, 1,000 and 1,000,000 requests a minute.

``python -m tests.load.cost_model`` writes the tables into ``docs/cost_and_scale.md``. A test compares the page with the
model, and the units of each request with those of the code's calls. Prices are list prices of us-east-1 in US dollars,
without free tiers, discounts and taxes, as of November 2025 (the page has the sources).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.inference_logs.store import SHARDS as LOG_SHARDS

PAGE = Path(__file__).parents[2] / "docs" / "cost_and_scale.md"
RATES = (1, 1_000, 1_000_000)
MINUTES_A_MONTH = 730 * 60
MILLION = 1_000_000

# Pairs of a monthly amount and the price of a unit up to it.
Tiers = Sequence[tuple[float, float]]
NO_LIMIT = float("inf")
LAMBDA_GB_SECONDS: Tiers = ((7.5e9, 0.0000133334), (18.75e9, 0.0000120001), (NO_LIMIT, 0.0000106667))
GATEWAY_REQUESTS: Tiers = ((333e6, 3.50e-6), (1e9, 2.80e-6), (20e9, 2.38e-6), (NO_LIMIT, 1.51e-6))
LOG_GIGABYTES: Tiers = ((10_000, 0.50), (30_000, 0.25), (50_000, 0.10), (NO_LIMIT, 0.05))
OUT_GIGABYTES: Tiers = ((10_000, 0.09), (50_000, 0.085), (150_000, 0.07), (NO_LIMIT, 0.05))
LAMBDA_REQUEST = 0.20e-6
READ_UNIT = 0.125e-6
WRITE_UNIT = 0.625e-6
TRACE = 5e-6
TRACED = 0.05

MEMORY_GB = 0.5
# Write units a second that DynamoDB accepts for one partition key.
PARTITION_WRITES = 1000
# Default quotas of a new AWS account. AWS raises Lambda's to 1,000 with use or on request.
GATEWAY_RATE = 10_000
LAMBDA_CONCURRENCY = 10
TABLE_WRITES = 40_000
STARTS_A_SECOND = 300


@dataclass(frozen=True)
class RequestKind:
    """A kind of request: its share of all requests, its duration and its units of DynamoDB.

    ``followed`` are the write units of the functions that process the tables' streams.
    """

    share: float
    milliseconds: float
    reads: int
    writes: int
    followed: int = 0
    response_kb: float = 1.0


# Durations are assumptions: a few milliseconds of CPU and of DynamoDB. A chat also waits for its model.
OPERATIONS: Mapping[str, RequestKind] = {
    "get by id": RequestKind(0.60, 15, reads=1, writes=0),
    "list of 10": RequestKind(0.24, 20, reads=3, writes=0, response_kb=6),
    "create": RequestKind(0.05, 40, reads=2, writes=4, followed=10),
    "update": RequestKind(0.05, 35, reads=2, writes=1, followed=10),
    "chat": RequestKind(0.06, 2_000, reads=1, writes=11, followed=24, response_kb=3),
}


@dataclass(frozen=True)
class Ceiling:
    """The write units of one write for one partition key, and the number of keys that share such writes."""

    partition: str
    units: int
    keys: int = 1

    @property
    def most(self) -> float:
        """Returns the most writes a second, if they use all write units of the partition keys."""
        return PARTITION_WRITES * self.keys / self.units


CEILINGS: Mapping[str, Ceiling] = {
    "entities of one kind made": Ceiling("action#<space>", 2),
    "entities of one kind changed": Ceiling("action#<space>", 1),
    "chats begun": Ceiling("chat#<space>", 2),
    "rows of the audit log": Ceiling("audit#<space>", 2),
    "calls of models within a chat": Ceiling("log#<space>#<shard>", 2, LOG_SHARDS),
    "other calls of models": Ceiling("log#<space>#<shard>", 1, LOG_SHARDS),
    "calls of one model, or of one user": Ceiling("log_model#<space>#<model>#<shard>", 1, LOG_SHARDS),
    "calls under the space's limits": Ceiling("limit_usage#<space>", 2),
}
# The log lines of a request: of the function, of the gateway, and Lambda's START, END and REPORT.
LOG_KB = 1.5


def tiered(amount: float, tiers: Tiers) -> float:
    """Returns the price of an amount."""
    price = below = 0.0
    for end, unit in tiers:
        price += max(0.0, min(amount, end) - below) * unit
        below = end
    return price


def mean(name: str) -> float:
    """Returns the mean of a field over all requests."""
    return sum(each.share * float(getattr(each, name)) for each in OPERATIONS.values())


def costs(rate: float) -> dict[str, float]:
    """Returns the monthly dollars for each service at ``rate`` requests a minute."""
    requests = rate * MINUTES_A_MONTH
    seconds = requests * mean("milliseconds") / 1000
    return {
        "API Gateway": tiered(requests, GATEWAY_REQUESTS),
        "Lambda": tiered(seconds * MEMORY_GB, LAMBDA_GB_SECONDS) + requests * LAMBDA_REQUEST,
        "DynamoDB reads": requests * mean("reads") * READ_UNIT,
        "DynamoDB writes": requests * (mean("writes") + mean("followed")) * WRITE_UNIT,
        "CloudWatch Logs": tiered(requests * LOG_KB / 1e6, LOG_GIGABYTES),
        "X-Ray": requests * TRACED * TRACE,
        "Data out": tiered(requests * mean("response_kb") / 1e6, OUT_GIGABYTES),
    }


def loads(rate: float) -> dict[str, tuple[float, float]]:
    """Returns the used part of each quota at ``rate`` requests a minute, and the quota."""
    a_second = rate / 60
    return {
        "requests a second (API Gateway)": (a_second, GATEWAY_RATE),
        "concurrent functions (Lambda; Little's law)": (a_second * mean("milliseconds") / 1000, LAMBDA_CONCURRENCY),
        "write units a second (DynamoDB)": (a_second * (mean("writes") + mean("followed")), TABLE_WRITES),
    }


def cost_table() -> str:
    priced = {rate: costs(rate) for rate in RATES}
    rows = [[name, *(_number(priced[rate][name]) for rate in RATES)] for name in priced[1]]
    totals = [sum(priced[rate].values()) for rate in RATES]
    rows.append(["**together**", *(f"**{_number(total)}**" for total in totals)])
    millions = [rate * MINUTES_A_MONTH / MILLION for rate in RATES]
    rows.append(["a million requests", *map(_number, (t / m for t, m in zip(totals, millions, strict=True)))])
    return _table(["US dollars a month", *(f"{rate:,} a minute" for rate in RATES)], rows)


def load_table() -> str:
    used = {rate: loads(rate) for rate in RATES}
    rows = [
        [name, *(_number(used[rate][name][0]) for rate in RATES), f"{quota:,.0f}"]
        for name, (_, quota) in used[1].items()
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
    """Returns the page with the model's tables."""
    for name, make in TABLES.items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        text = f"{before}{begin}{make()}{end}{after}"
    return text


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _number(amount: float) -> str:
    return f"{amount:,.2f}" if amount < 10 else f"{amount:,.0f}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
