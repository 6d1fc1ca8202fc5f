"""Measures the console in Chromium against a local stack: the first page, and the frames of a table of 10,000 rows.

The first page is opened by a new browser each time, so nothing is cached. The table shows the columns of a file as the
catalog would describe them. A script scrolls it, and then the mouse's wheel does, which Chromium handles in another
thread. Chromium's trace says which frames it presented and which it dropped. The peer is the same page when nothing
moves: its clock ticks 60 times a second, and no page can present more. The processor time is that of all processes of
the browser, which draws without a graphics card.
"""

import gzip
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Response

from tests.e2e.conftest import Stack
from tests.fixtures.browser import open_browser
from tests.fixtures.console import DESKTOP, opened, sign_in
from tests.load.harness import options, show

EMAIL = "speed@example.com"
TABLE = "Columns"
# Six rows of this table a frame: a quick turn of the wheel.
PIXELS = 300
COUNT_FRAMES = """async ({ label, pixels, seconds }) => {
  const table = document.querySelector(`[role=region][aria-label="${label}"]`);
  const ended = performance.now() + 1000 * seconds;
  let [ticks, most] = [0, 0];
  while (performance.now() < ended) {
    await new Promise(requestAnimationFrame);
    ticks += 1;
    table.scrollTop += pixels;
    most = Math.max(most, table.querySelectorAll('tbody tr').length);
  }
  return { ticks, most };
}"""


@contextmanager
def local_stack() -> Iterator[Stack]:
    """Runs a local stack with its data in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder))
        try:
            yield stack
        finally:
            stack.stop()


def first_page(browser: Browser, url: str) -> tuple[float, int, int]:
    """Opens the console, and returns the seconds until its form can be filled in, and the bytes of its scripts."""
    answers: list[Response] = []
    page = browser.new_page()
    page.on("response", lambda answer: answers.append(answer))
    began = time.perf_counter()
    page.goto(f"{url}/console")
    page.get_by_label("E-mail address").fill(EMAIL)
    seconds = time.perf_counter() - began
    scripts = [each.body() for each in answers if "javascript" in each.headers.get("content-type", "")]
    page.close()
    return seconds, sum(map(len, scripts)), sum(len(gzip.compress(each)) for each in scripts)


def show_first_page(browser: Browser, stack: Stack, rounds: int) -> None:
    rows = []
    for name, url in (("functions behind the gateway", stack.url), ("the server of make up", stack.settings.api_url)):
        found = [first_page(browser, url) for _ in range(rounds + 1)][1:]
        seconds = [each[0] for each in found]
        _, raw, packed = found[0]
        figures = (statistics.median(seconds), max(seconds), raw / 1000, packed / 1000)
        rows.append((name, *(f"{each:.2f}" for each in figures[:2]), *(f"{each:.0f}" for each in figures[2:])))
    columns = ("served by", "seconds, median", "slowest", "kB of script", "compressed")
    show("First page until it can be used (under 1.5 s and 150 kB compressed)", columns, rows)


@dataclass(frozen=True)
class Frames:
    """What the browser did in ``seconds``: the ticks of its clock, the states of its frames, and its processor time."""

    seconds: float
    ticks: int
    states: Counter[str]
    processor_seconds: float
    most: int

    def cells(self) -> tuple[str, ...]:
        presented = self.states["STATE_PRESENTED_ALL"] + self.states["STATE_PRESENTED_PARTIAL"]
        own = f"{1000 * self.processor_seconds / presented:.1f}" if presented else ""
        rates = (self.ticks, presented, self.states["STATE_DROPPED"])
        return *(f"{each / self.seconds:.1f}" for each in rates), own, str(self.most or "")


def processor_seconds(browser: Browser) -> float:
    """Returns the processor time of all processes of the browser."""
    session = browser.new_browser_cdp_session()
    found = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    return sum(float(each["cpuTime"]) for each in found)


def frames(browser: Browser, page: Page, pixels: int, seconds: int, *, by_wheel: bool) -> Frames:
    """Scrolls the table, and reads from the browser's trace which frames it presented and which it dropped."""
    table = page.get_by_role("region", name=TABLE)
    table.evaluate("table => { table.scrollTop = 0 }")
    box = table.bounding_box()
    assert box is not None
    session = page.context.new_cdp_session(page)
    busy, began = processor_seconds(browser), time.perf_counter()
    browser.start_tracing(page=page, categories=["cc", "benchmark"])
    found = {"ticks": 0, "most": 0}
    if by_wheel:
        # One second of the browser's clock has 60 ticks.
        speed = 60 * pixels
        place = {"x": box["x"] + 50, "y": box["y"] + 50, "gestureSourceType": "mouse"}
        session.send("Input.synthesizeScrollGesture", {**place, "yDistance": -speed * seconds, "speed": speed})
    else:
        found = page.evaluate(COUNT_FRAMES, {"label": TABLE, "pixels": pixels, "seconds": seconds})
    took, busy = time.perf_counter() - began, processor_seconds(browser) - busy
    events = json.loads(browser.stop_tracing())["traceEvents"]
    reports = [each["args"].get("frame_reporter") for each in events if each["name"] == "PipelineReporter"]
    states = Counter(str(each["state"]) for each in reports if each)
    return Frames(took, found["ticks"], states, busy, found["most"])


def entry(columns: int) -> dict[str, Any]:
    """Returns what the catalog says about a file with so many columns. To scan it would be a benchmark of its own."""
    known = {"formats": [], "nulls": 0, "distinct": 3, "distinct_is_estimate": False, "personal_data": None}
    values = {"type": "int", "min": 0, "max": 9, "quantiles": {"0.25": 2, "0.5": 5, "0.75": 7}, "top_values": None}
    profiles = [{"name": f"column {number}", **known, **values} for number in range(columns)]
    about = {
        "file": "wide.csv",
        "status": "scanned",
        "format": "csv",
        "encoding": "utf-8",
        "rows": 3,
        "columns": profiles,
    }
    nothing: dict[str, Any] = dict.fromkeys(("error", "dialect", "read_options"))
    return {**about, **nothing, "warnings": [], "warning_count": 0, "affected_rows": 0, "scanned_at": None}


def show_frames(browser: Browser, stack: Stack, columns: int, seconds: int) -> None:
    api = stack.user(EMAIL)
    api.space_id = api.post("/spaces", {"name": "Speed", "description": "of a benchmark"})["id"]
    connector = api.post("/connectors", {"name": "Wide", "type": "aws-s3"})["id"]
    page = browser.new_page(viewport={"width": DESKTOP[0], "height": DESKTOP[1]})
    sign_in(page, stack.settings.api_url, EMAIL)
    answer = {"data": [entry(columns)], "count": 1, "has_more": False}
    page.route(f"**/connectors/{connector}/catalog*", lambda route: route.fulfill(json=answer))
    opened(page, f"data/{connector}/file?name=wide.csv", "wide.csv")
    ways = {"at rest": (0, False), "scrolled by a script": (PIXELS, False), "scrolled by the wheel": (PIXELS, True)}
    rows = [
        (name, *frames(browser, page, pixels, seconds, by_wheel=wheel).cells())
        for name, (pixels, wheel) in ways.items()
    ]
    titles = (
        "",
        "ticks a second",
        "presented a second",
        "dropped a second",
        "processor ms a frame",
        "most rows in the page",
    )
    show(f"A table of {columns:,} rows (at least 50 presented frames a second)", titles, rows)


def main() -> None:
    chosen = options(__doc__, rounds=5, columns=10_000, seconds=10)
    with local_stack() as stack, open_browser() as browser:
        show_first_page(browser, stack, chosen.rounds)
        show_frames(browser, stack, chosen.columns, chosen.seconds)


if __name__ == "__main__":
    main()
