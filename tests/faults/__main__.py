"""``make drill``: faults of every kind, again and again, and afterwards a full recount. See docs/fault_injection.md."""

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
from tests.faults.scenarios import SCENARIOS
from tests.faults.world import emulated


def main() -> int:
    """0 only if every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("scenarios", nargs="*", help=f"which ones: {', '.join(SCENARIOS)}; by default all")
    parser.add_argument("--seed", type=int, help="repeat an earlier drill; its threads race anew")
    parser.add_argument("--minutes", type=float, default=0, help="go on with further seeds for so long")
    options = parser.parse_args()
    if unknown := set(options.scenarios) - SCENARIOS.keys():
        parser.error(f"there is no scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    # Hundreds of errors are meant to happen: only what is broken afterwards is told.
    logger.setLevel("CRITICAL")
    logging.getLogger("asyncio").setLevel("CRITICAL")
    console = Console(file=sys.stdout)
    shown = Table("Seed", "Scenario", "Faults", "What happened", "Broken", "Seconds")
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    until = time.monotonic() + options.minutes * 60
    is_broken = False
    while True:
        for name in options.scenarios or SCENARIOS:
            console.print(f"· {name}, seed {seed}")
            started = time.monotonic()
            # What functions print is metrics.
            with emulated(seed) as world, redirect_stdout(io.StringIO()):
                said, broken = SCENARIOS[name](world, seed)
            faults = sum(world.boundary.injected.values())
            for problem in broken:
                console.print(f"✗ {problem}", markup=False)
            seconds = f"{time.monotonic() - started:.0f}"
            shown.add_row(str(seed), name, str(faults), said, str(len(broken)), seconds)
            is_broken |= bool(broken)
        if time.monotonic() >= until:
            break
        seed += 1
    console.print(shown)
    return int(is_broken)


if __name__ == "__main__":
    raise SystemExit(main())
