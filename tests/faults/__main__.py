"""Injects faults of every kind, repeatedly, and then checks all stored data. See docs/fault_injection.md."""

import argparse
import io
import logging
import random
import sys
import time
from contextlib import redirect_stdout

from rich.console import Console
from rich.table import Table

from shared.observability import logger
from tests.faults.emulated_platform import emulated_platform
from tests.faults.scenarios import SCENARIOS


def main() -> int:
    """Returns 0 if no scenario found a problem, otherwise 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("scenarios", nargs="*", help=f"some of {', '.join(SCENARIOS)}; all by default")
    parser.add_argument("--seed", type=int, help="repeat an earlier run; only the order of its threads may differ")
    parser.add_argument("--minutes", type=float, default=0, help="continue with further seeds for this time")
    options = parser.parse_args()
    if unknown := set(options.scenarios) - SCENARIOS.keys():
        parser.error(f"no scenario {', '.join(sorted(unknown))}: choose from {', '.join(SCENARIOS)}")
    # The injected faults cause hundreds of errors. Only the problems afterwards matter.
    logger.setLevel("CRITICAL")
    logging.getLogger("asyncio").setLevel("CRITICAL")
    console = Console(file=sys.stdout)
    shown = Table("Seed", "Scenario", "Faults", "Result", "Problems", "Seconds")
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    until = time.monotonic() + options.minutes * 60
    has_problems = False
    while True:
        for name in options.scenarios or SCENARIOS:
            console.print(f"· {name}, seed {seed}")
            started = time.monotonic()
            # Functions print their metrics.
            with emulated_platform(seed) as platform, redirect_stdout(io.StringIO()):
                summary, problems = SCENARIOS[name](platform, seed)
            faults = sum(platform.boundary.injected.values())
            for problem in problems:
                console.print(f"✗ {problem}", markup=False)
            seconds = f"{time.monotonic() - started:.0f}"
            shown.add_row(str(seed), name, str(faults), summary, str(len(problems)), seconds)
            has_problems |= bool(problems)
        if time.monotonic() >= until:
            break
        seed += 1
    console.print(shown)
    return int(has_problems)


if __name__ == "__main__":
    raise SystemExit(main())
