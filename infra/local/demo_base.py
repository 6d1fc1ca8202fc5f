"""The fourth part of the demo: scores and decisions for all customers of a file, and a what-if beside them."""

import csv
import io
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from infra.local.client import ApiClient, Json
from infra.local.demo_data import DATA_SETS
from infra.local.settings import LocalError

FILE = "base/customers.csv"
RESULTS = "Results"
CUSTOMERS = 2000
# Calls that the call centre can make for a run, and twice as many in the what-if.
CALLS = 50
SCAN_SECONDS = 180
RUN_SECONDS = 900
ENDED = ("succeeded", "failed", "stopped")


class BaseDemo:
    """The steps of this part. The models of the offers and the connector must exist."""

    def __init__(self, api: ApiClient, console: Console, connector_id: str, chart: Path) -> None:
        self._api = api
        self._console = console
        self._connector_id = connector_id
        self._chart = chart

    def run(self) -> None:
        from infra.local.demo_plot import plot_offers, shown

        self._customers()
        results = self._results()
        files = {"connector_id": self._connector_id, "files": [FILE]}
        output = {"output": {"connector_id": results}}
        scored = self._run("/predictions", "Scored", {**files, **output, "checkpoint_id": DATA_SETS[0].name})
        self._step(
            f"{scored['progress']['rows_written']:,} customers scored by '{DATA_SETS[0].name}' "
            f"into {scored['output']['folder']}/"
        )
        decided = self._run("/decision-runs", "Decided", {**files, **output, **calls(CALLS)})
        more_calls = self._run("/decision-runs", "What if", {**files, "dry_run": True, **calls(2 * CALLS)})
        summary = self._api.get(f"/decision-runs/{decided['id']}/summary")
        what_if = self._api.get(f"/decision-runs/{more_calls['id']}/summary", compare_to=decided["id"])
        self._show(summary, what_if)
        plot_offers({f"{CALLS} calls": summary, f"{2 * CALLS} calls": what_if}, self._chart)
        self._step(f"{summary['reserved']:,} contacts reserved; offers by action: {shown(self._chart)}")

    def _customers(self) -> None:
        """Uploads a file with a row for each customer, made of one benchmark row of each data set."""
        listing = self._api.get(f"/connectors/{self._connector_id}/files", limit=1000)
        is_present = any(FILE in folder for folder in listing)
        if not is_present:
            self._api.upload(self._connector_id, {FILE: customers()})

        def is_scanned(page: Json) -> bool:
            return any(row["file"] == FILE and row["status"] != "pending" for row in page["data"])

        path = f"/connectors/{self._connector_id}/catalog?pageSize=100"
        self._api.wait(path, is_scanned, seconds=SCAN_SECONDS, every=1.0)
        self._step(f"{CUSTOMERS:,} customers in {FILE}", reused=is_present)

    def _results(self) -> str:
        found = next((each for each in self._api.rows("/connectors") if each["name"] == RESULTS), None)
        connector = found or self._api.post("/connectors", {"name": RESULTS, "type": "aws-s3"})
        return str(connector["id"])

    def _run(self, path: str, title: str, body: Json) -> Json:
        """Starts a run, shows its progress, and returns it once it has succeeded."""
        run: Json = self._api.post(path, body)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(title, total=run["rows"])

            def has_ended(now: Json) -> bool:
                progress.update(task, completed=now["progress"]["rows_read"])
                return now["status"] in ENDED

            run = self._api.wait(f"{path}/{run['id']}", has_ended, seconds=RUN_SECONDS)
        if run["status"] != "succeeded":
            raise LocalError(f"{path}/{run['id']} is {run['status']}: {run['error']}")
        return run

    def _show(self, summary: Json, what_if: Json) -> None:
        table = Table(title=f"Offers to {summary['customers']:,} customers", title_justify="left")
        table.add_column("Offer")
        table.add_column("On")
        for heading in (f"with {CALLS} calls", f"with {2 * CALLS} calls", "difference"):
            table.add_column(heading, justify="right")
        first, second = offers(summary), offers(what_if)
        for name, channel in sorted(first | second):
            counts = [each.get((name, channel), 0) for each in (first, second)]
            table.add_row(name, channel, *(f"{count:,}" for count in counts), f"{counts[1] - counts[0]:+,}")
        scores = [each["score"] for each in (summary, what_if)]
        table.add_row("Sum of scores", "", *(f"{score:,.1f}" for score in scores), f"{scores[1] - scores[0]:+,.1f}")
        self._console.print(table)

    def _step(self, text: str, *, reused: bool = False) -> None:
        self._console.print(f"✓ {text}{' (exists already)' if reused else ''}", highlight=False, markup=False)


def calls(capacity: int) -> Json:
    """Returns the limits of a run that may offer this often by phone."""
    return {"limits": [{"channel": "phone", "capacity": capacity}]}


def offers(summary: Json) -> dict[tuple[str, str], int]:
    """Returns the number of offers by name and channel."""
    return {(each["name"], each["channel"] or "any"): each["offers"] for each in summary["offers_by_action"]}


def customers() -> bytes:
    """Returns a CSV file of customers. Their rows of each data set repeat if it has fewer."""
    tables = []
    for data_set in DATA_SETS:
        rows = list(csv.DictReader(io.StringIO(data_set.files()[data_set.benchmark_file].decode())))
        tables.append([{name: value for name, value in row.items() if name != data_set.target} for row in rows])
    text = io.StringIO(newline="")
    names = ["customer_id", *(name for rows in tables for name in rows[0])]
    writer = csv.DictWriter(text, dict.fromkeys(names))
    writer.writeheader()
    for number in range(CUSTOMERS):
        row = {"customer_id": f"C{number + 1:05}"}
        for rows in tables:
            row |= rows[number % len(rows)]
        writer.writerow(row)
    return text.getvalue().encode()
