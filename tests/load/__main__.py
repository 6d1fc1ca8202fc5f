"""All benchmarks, one after the other: ``python -m tests.load [NAME ...]``. Each prints ratios taken in one run."""

import argparse
import subprocess
import sys
from pathlib import Path

from rich.console import Console

NAMES = sorted(
    path.stem for path in Path(__file__).parent.glob("*.py") if "def main(" in path.read_text() and path.stem[0] != "_"
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}; all when left out")
    names = parser.parse_args().names or NAMES
    if unknown := set(names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}: choose from {', '.join(NAMES)}")
    console = Console()
    # Import times double without bytecode, for us and for what we compare with.
    subprocess.run([sys.executable, "-m", "compileall", "-q", "shared", "functions"], check=False)
    failed = []
    for name in names:
        console.rule(name.replace("_", " "))
        # In a process of its own: none finds the other's settings, threads or caches.
        if subprocess.run([sys.executable, "-m", f"tests.load.{name}"], check=False).returncode:
            failed.append(name)
    if failed:
        raise SystemExit(f"Failed: {', '.join(failed)}. Each can be run by itself: python -m tests.load NAME")


if __name__ == "__main__":
    main()
