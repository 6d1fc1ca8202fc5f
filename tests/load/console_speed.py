"""Measures the console in Chromium against a local stack: the first page, and the frames of a table of 10,000 rows.

The first page is opened by a new browser each time, so nothing is cached. The table shows the columns of a file that is
uploaded and scanned for it. A script scrolls it from the first row to the last and counts the frames that the browser
draws, beside those of the same page when nothing moves: a browser draws 60 a second at most. On a busy machine, the
processor time of the page in each frame says more: 50 frames a second leave it 20 ms.
"""

import gzip
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from playwright.sync_api import Browser, Page, Response

from tests.e2e.conftest import Stack
from tests.fixtures.browser import open_browser
from tests.fixtures.console import DESKTOP, opened, sign_in
from tests.load.harness import options, show

EMAIL = "speed@example.com"
SCAN_SECONDS = 600
# Six rows of this table a frame: a quick turn of the wheel.
PIXELS_A_FRAME = 300
COUNT_FRAMES = """async ({ label, pixels, seconds }) => {
  const frame = document.querySelector(`[role=region][aria-label="${label}"]`);
  const times = [];
  let most = 0;
  const ended = performance.now() + 1000 * seconds;
  frame.scrollTop = 0;
  while (frame.scrollTop + frame.clientHeight < frame.scrollHeight - 1 && performance.now() < ended) {
    times.push(await new Promise(requestAnimationFrame));
    frame.scrollTop += pixels;
    most = Math.max(most, frame.querySelectorAll('tbody tr').length);
  }
  return { times, most, reached: frame.scrollTop };
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
    """``seconds`` between frames, the processor time of the page in them, and the most rows that were in the page."""

    seconds: list[float]
    processor_seconds: float
    most: int

    def cells(self) -> tuple[str, ...]:
        rate, longest = 1 / statistics.mean(self.seconds), 1000 * max(self.seconds)
        own = 1000 * self.processor_seconds / len(self.seconds)
        return f"{len(self.seconds):,}", f"{rate:.1f}", f"{longest:.0f}", f"{own:.1f}", str(self.most)


def frames(page: Page, pixels: int, seconds: int) -> Frames:
    """Scrolls the table by so many pixels in each frame, and counts the frames."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def busy() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))

    before = busy()
    found = page.evaluate(COUNT_FRAMES, {"label": "Columns", "pixels": pixels, "seconds": seconds})
    times = [(later - earlier) / 1000 for earlier, later in pairwise(found["times"])]
    return Frames(times, busy() - before, found["most"])


def show_frames(browser: Browser, stack: Stack, columns: int) -> None:
    api = stack.user(EMAIL)
    api.space_id = api.post("/spaces", {"name": "Speed", "description": "of a benchmark"})["id"]
    connector = api.post("/connectors", {"name": "Wide", "type": "aws-s3"})["id"]
    lines = [",".join(f"column {number}" for number in range(columns)), *[",".join(map(str, range(columns)))] * 3]
    api.upload(connector, {"wide.csv": "\n".join(lines).encode()})
    path = f"/connectors/{connector}/catalog"
    found = api.wait(
        path, lambda page: [each["status"] for each in page["data"]] in (["scanned"], ["error"]), seconds=SCAN_SECONDS
    )
    if error := found["data"][0]["error"]:
        raise SystemExit(f"The file of {columns:,} columns was not scanned: {error}")
    page = browser.new_page(viewport={"width": DESKTOP[0], "height": DESKTOP[1]})
    sign_in(page, stack.settings.api_url, EMAIL)
    opened(page, f"data/{connector}/file?name=wide.csv", "wide.csv")
    rows = []
    for name, pixels, seconds in (("at rest", 0, 5), ("scrolling", PIXELS_A_FRAME, 600)):
        rows.append((name, *frames(page, pixels, seconds).cells()))
    titles = ("", "frames", "a second", "longest, ms", "processor ms a frame", "most rows in the page")
    show(f"A table of {columns:,} rows (at least 50 frames a second)", titles, rows)


def main() -> None:
    chosen = options(__doc__, rounds=5, columns=10_000)
    with local_stack() as stack, open_browser() as browser:
        show_first_page(browser, stack, chosen.rounds)
        show_frames(browser, stack, chosen.columns)


if __name__ == "__main__":
    main()
