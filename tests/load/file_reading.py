"""How readers treat polluted files: ours, DuckDB, clevercsv with Python's csv module, and polars.

Each file of ``tests/fixtures/polluted_files`` has an expectation: a careful person reads one table, or cannot know. A
reader is *right*; or it *reported* a doubt, with the line or reason; or it reported another one (*reported wrong*); or
it returned wrong data without a word (*silent*); or it refused a file that can be read (*refused readable*). Readers
get no options. clevercsv reads delimited text only.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import track

from tests.fixtures.file_readers import read_with_ours
from tests.fixtures.polluted_files import KINDS, Case, cases_of, group_of
from tests.fixtures.reading_judge import Judgement, Outcome, Reader, judge_all
from tests.load.harness import options, show
from tests.load.peer_readers import PEERS, MissingPeerError

Counts = Counter[Outcome]
ORDER = (Outcome.RIGHT, Outcome.REPORTED, Outcome.REPORTED_WRONG, Outcome.SILENT, Outcome.REFUSED_READABLE)
OTHER_FORMATS = ("json_lines", "parquet")


def readers(*, ours_only: bool) -> dict[str, Reader]:
    """Returns our reader and those of the peers that are installed."""
    found: dict[str, Reader] = {"ours": read_with_ours}
    for name, make in {} if ours_only else PEERS.items():
        try:
            found[name] = make()
        except MissingPeerError as error:
            Console().print(f"{name} is left out: {error}.")
    return found


def reads(reader: str, kind: str) -> bool:
    """Returns whether a reader is meant for files of this kind."""
    return reader != "clevercsv" or group_of(kind) not in OTHER_FORMATS


def judged(name: str, reader: Reader, files: Mapping[str, list[Case]], folder: Path) -> dict[str, list[Judgement]]:
    """Returns the judgements of a reader by kind."""
    kinds = track([kind for kind in files if reads(name, kind)], name, transient=True)
    return {kind: judge_all(files[kind], reader, folder) for kind in kinds}


def counts(judgements: list[Judgement]) -> Counts:
    """Returns how many files have each outcome."""
    return Counter(judgement.outcome for judgement in judgements)


def shown(found: Counts | None) -> str:
    """Returns counts in one cell, in the order of the outcomes."""
    return "" if found is None else " ".join(str(found[outcome] or "·") for outcome in ORDER)


def show_kinds(results: Mapping[str, Mapping[str, list[Judgement]]], files: Mapping[str, list[Case]]) -> None:
    """Prints the outcomes of all readers by kind."""
    rows = [
        (kind, str(len(cases)), *(shown(counts(found[kind]) if kind in found else None) for found in results.values()))
        for kind, cases in files.items()
    ]
    show(f"By kind: {', '.join(ORDER)}", ("kind", "files", *results), rows)


def show_totals(results: Mapping[str, Mapping[str, list[Judgement]]], seconds: Mapping[str, float]) -> None:
    """Prints the outcomes of all readers."""
    rows = []
    for name, found in results.items():
        judgements = [judgement for some in found.values() for judgement in some]
        total = counts(judgements)
        rows.append((name, str(len(judgements)), *(str(total[outcome]) for outcome in ORDER), f"{seconds[name]:.1f}"))
    show("All kinds (limit of ours: no file silent or reported wrong)", ("", "files", *ORDER, "seconds"), rows)


def show_faults(found: Mapping[str, list[Judgement]], few: int) -> None:
    """Prints some files of each kind that our reader gets wrong."""
    for kind, judgements in found.items():
        wrong = [one for one in judgements if one.outcome not in (Outcome.RIGHT, Outcome.REPORTED)]
        for judgement in wrong[:few]:
            Console(width=200, soft_wrap=True).print(f"{kind}: {judgement}", markup=False, highlight=False)


def main() -> None:
    chosen = options(__doc__, faults=0, ours=False)
    files = {kind: cases_of(kind) for kind in KINDS}
    results, seconds = {}, {}
    with tempfile.TemporaryDirectory(prefix="file-reading-") as folder:
        for name, reader in readers(ours_only=chosen.ours).items():
            began = time.perf_counter()
            results[name] = judged(name, reader, files, Path(folder))
            seconds[name] = time.perf_counter() - began
    show_faults(results["ours"], chosen.faults)
    show_kinds(results, files)
    show_totals(results, seconds)


if __name__ == "__main__":
    main()
