"""Counts clicks and seconds of six tasks in the console, from its first page, and of one task in MLflow's pages.

A click is a press of the mouse, also one that answers a question of the browser. Keys are counted apart; a typed text
counts as one. The seconds are those of the program: people also read. MLflow's pages run from their own environment and
can do one of the tasks. docs/speed.md compares more, by the documentation of others.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, Dialog, Locator, Page, expect

from infra.local.demo_data import DATA_SETS
from shared.clock import utc_now
from shared.dynamodb.table import Table
from shared.inference_logs.store import InferenceLogs
from tests.e2e.conftest import JOB_SECONDS, Stack, TrainingSpace
from tests.fixtures.browser import open_browser
from tests.fixtures.console import DESKTOP, WAIT_MILLISECONDS, sign_in, waiting_argument
from tests.fixtures.inference_logs import call
from tests.load.console_speed import local_stack
from tests.load.harness import free_port, options, server, show, uv_tool

EMAIL = "tasks@example.com"
MLFLOW = "mlflow<3.18"
RUNS = 20
ARGUMENTS = 5
RETENTION = timedelta(days=90)


@dataclass
class Hand:
    """Works on a page, and counts what it does."""

    page: Page
    clicks: int = 0
    keys: int = 0
    began: float = field(default_factory=time.perf_counter)

    def click(self, wanted: Locator) -> None:
        self.clicks += 1
        wanted.click()

    def press(self, key: str) -> None:
        self.keys += 1
        self.page.keyboard.press(key)

    def write(self, wanted: Locator, text: str) -> None:
        """Types a text into a field, which takes a click and a text, and presses Enter."""
        self.click(wanted)
        self.keys += 1
        self.page.keyboard.type(text)
        self.press("Enter")

    def counts(self) -> tuple[str, str, str]:
        return str(self.clicks), str(self.keys), f"{time.perf_counter() - self.began:.1f}"

    def open(self, section: str) -> None:
        self.click(self.page.get_by_label("Pages").get_by_role("link", name=section, exact=True))


def find_the_best_model(hand: Hand) -> None:
    hand.open("Models")
    hand.click(hand.page.get_by_role("link", name="Compare the best"))
    expect(hand.page.locator("canvas").first).to_be_visible()
    expect(hand.page.get_by_role("region", name="Metrics")).to_contain_text("to 0.")


def see_why_a_customer_got_an_offer(hand: Hand) -> None:
    hand.open("One customer")
    hand.write(hand.page.locator("input[name=key]"), "4711")
    hand.click(hand.page.get_by_role("link", name="decision: why this offer").first)
    expect(hand.page.get_by_role("region", name="Contributions")).to_be_visible()


def approve_five_arguments(hand: Hand) -> None:
    hand.open("Queue")
    for number in range(ARGUMENTS):
        expect(hand.page.get_by_role("heading", name=f"Deposit {number}")).to_be_visible()
        hand.press("a")
    expect(hand.page.get_by_text(f"You have decided {ARGUMENTS}.")).to_be_visible()


def find_the_most_expensive_user(hand: Hand) -> None:
    hand.open("Calls")
    hand.click(hand.page.get_by_role("link", name="Yesterday"))
    expect(hand.page.get_by_role("region", name="By user").get_by_role("row").nth(1)).to_contain_text(EMAIL)


def revoke_a_key(hand: Hand) -> None:
    def agree(dialog: Dialog) -> None:
        hand.clicks += 1
        dialog.accept()

    hand.page.once("dialog", agree)
    hand.open("Keys")
    row = hand.page.get_by_role("row").filter(has_text="Nightly")
    hand.click(row.get_by_role("button", name="Revoke"))
    expect(row).to_contain_text("revoked")


def start_a_training(hand: Hand) -> None:
    hand.click(hand.page.get_by_role("link", name="Train a model"))
    hand.click(hand.page.get_by_role("button", name="Use this file"))
    hand.click(hand.page.get_by_role("button", name="Train", exact=True))
    expect(hand.page.locator(".status").first).to_be_visible()


TASKS: dict[str, Callable[[Hand], None]] = {
    "find the best model and why": find_the_best_model,
    "see why a customer got an offer": see_why_a_customer_got_an_offer,
    "approve five arguments": approve_five_arguments,
    "find yesterday's most expensive user": find_the_most_expensive_user,
    "revoke a key": revoke_a_key,
    "start a training": start_a_training,
}


def furnish(stack: Stack) -> None:
    """Makes a space in which each task can be done."""
    api = stack.user(EMAIL)
    api.space_id = api.post("/spaces", {"name": "Tasks", "description": "of a benchmark"})["id"]
    data_set = next(each for each in DATA_SETS if each.name == "german-credit")
    space = TrainingSpace(stack, api, data_set)
    path = f"/connectors/{space.connector_id}/catalog"
    api.wait(path, lambda found: {each["status"] for each in found["data"]} == {"scanned"}, seconds=JOB_SECONDS)
    benchmark = space.benchmark()["id"]
    trained = [space.train(name=name, benchmark_ids=[benchmark]) for name in ("First", "Second")]
    for each in trained:
        space.wait_for(each["id"])
    api.wait(
        f"/leaderboards?benchmarks={benchmark}",
        lambda found: sum(benchmark in row["evaluations"] for row in found["data"]) == len(trained),
        seconds=JOB_SECONDS,
    )
    checkpoint = api.get("/leaderboards", benchmarks=benchmark)["data"][0]["id"]
    api.call("PUT", "/checkpoints/aliases/champion", {"checkpoint_id": checkpoint})
    offer = {"name": "Loan", "description": "", "priority": "high", "type": "offer", "status": "active"}
    api.post("/actions", {**offer, "model_id": "champion"})
    api.post("/insights", {"client": {"customer_id": "4711", **space.rows(1)[0]}, "wording": "none"})
    for number in range(ARGUMENTS):
        waiting_argument(api, f"Deposit {number}")
    api.post("/api-keys", {"name": "Nightly", "scopes": ["read"]})
    api.call("PUT", f"/spaces/{api.space_id}/limits", {"prices": {"small": {"input": 1, "output": 1}}})
    logs = InferenceLogs(Table(stack.aws("dynamodb"), stack.outputs["LogsTableName"]), utc_now, RETENTION)
    yesterday = datetime.now(UTC).replace(hour=12) - timedelta(days=1)
    for user in (api.get("/me")["id"], "a program's user"):
        logs.record(str(api.space_id), call(yesterday, user=user, input_tokens=10_000 if "program" in user else 90_000))
    usage = (
        "/inference-logs/usage?by=user&start_date=" + f"{yesterday:%Y-%m-%d}T00:00:00Z&end_date={yesterday:%Y-%m-%d}"
    )
    api.wait(usage, lambda found: len(found["data"]) == 2, seconds=JOB_SECONDS)


def ours(browser: Browser, stack: Stack) -> list[tuple[str, ...]]:
    furnish(stack)
    page = browser.new_page(viewport={"width": DESKTOP[0], "height": DESKTOP[1]}, locale="en-US")
    sign_in(page, stack.settings.api_url, EMAIL)
    rows: list[tuple[str, ...]] = []
    for name, task in TASKS.items():
        page.evaluate("location.hash = '#/home'")
        expect(page.get_by_role("heading", name="Home", level=1)).to_be_visible()
        hand = Hand(page)
        task(hand)
        rows.append((name, *hand.counts()))
    return rows


def find_the_best_run(browser: Browser, url: str) -> tuple[str, ...]:
    """Finds MLflow's best run by a metric, and looks at its parameters and metrics, from MLflow's first page."""
    api = httpx.Client(base_url=f"{url}/api/2.0/mlflow", trust_env=False, timeout=60)

    def post(path: str, **body: object) -> Any:
        return api.post(f"/{path}", json=body).raise_for_status().json()

    experiment = post("experiments/create", name="Customers")["experiment_id"]
    values = {f"run {number}": (7 * number % RUNS) / RUNS for number in range(RUNS)}
    for name, value in values.items():
        now = int(time.time() * 1000)
        run = post("runs/create", experiment_id=experiment, start_time=now, run_name=name)["run"]["info"]["run_id"]
        metric = {"key": "roc_auc", "value": value, "timestamp": now, "step": 0}
        post("runs/log-batch", run_id=run, metrics=[metric], params=[{"key": "depth", "value": "4"}])
    page = browser.new_page(viewport={"width": DESKTOP[0], "height": DESKTOP[1]}, locale="en-US")
    page.set_default_timeout(WAIT_MILLISECONDS)
    page.goto(url)
    experiments = page.get_by_role("link", name="Customers")
    expect(experiments.first).to_be_visible()
    hand = Hand(page)
    hand.click(page.get_by_text("Model training", exact=True))
    hand.click(experiments.first)
    hand.click(page.get_by_text("Sort: Created"))
    hand.click(page.get_by_text("roc_auc", exact=True).first)
    best = page.locator("a[href*='/runs/']").first
    expect(best).to_have_text(max(values, key=lambda name: values[name]))
    hand.click(best)
    expect(page.get_by_text("Parameters (1)")).to_be_visible()
    return ("MLflow: find the best model", *hand.counts())


def main() -> None:
    chosen = options(__doc__, without_peer=False)
    with open_browser() as browser:
        with local_stack() as stack:
            rows = ours(browser, stack)
        if not chosen.without_peer:
            with tempfile.TemporaryDirectory() as folder:
                url = f"http://127.0.0.1:{(port := free_port())}"
                store = ("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", folder)
                command = uv_tool(MLFLOW, "mlflow", "server", "--port", str(port), *store, "--workers", "1")
                log = Path(folder) / "mlflow.log"
                with server(command, f"{url}/health", log, MLFLOW_DISABLE_TELEMETRY="true"):
                    rows.append(find_the_best_run(browser, url))
    show("Six tasks in the console, from its first page", ("task", "clicks", "keys and texts", "seconds"), rows)


if __name__ == "__main__":
    main()
