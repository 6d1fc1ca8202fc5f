"""Runs benchmarks, one after the other: ``python -m tests.load [NAME ...]``. See docs/speed.md."""

import argparse
import subprocess
import sys
from pathlib import Path

from rich.console import Console

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py") if "def main(" in path.read_text())
# These train for half an hour, so `make quality` runs them.
ONLY_BY_NAME = {"model_quality", "low_base_rates"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(NAMES)}")
    names = parser.parse_args().names or [name for name in NAMES if name not in ONLY_BY_NAME]
    if unknown := set(names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}: choose from {', '.join(NAMES)}")
    # Without bytecode all import times are twice as long.
    subprocess.run([sys.executable, "-m", "compileall", "-q", "shared", "functions"], check=False)
    failed = []
    for name in names:
        Console().rule(name.replace("_", " "))
        # Benchmarks must not share settings, threads or caches, so each has its own process.
        if subprocess.run([sys.executable, "-m", f"tests.load.{name}"], check=False).returncode:
            failed.append(name)
    if failed:
        raise SystemExit(f"Failed: {', '.join(failed)}. Run one alone with: python -m tests.load NAME")


if __name__ == "__main__":
    main()
