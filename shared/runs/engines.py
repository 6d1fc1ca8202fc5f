"""Chooses what carries a run out, and estimates what that costs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from shared.models.job import JobFile
from shared.models.run import Run, RunEngine

# A function holds a file and its decoded copy on its disk of 10 GB.
FUNCTION_FILE_BYTES = 3 << 30
# A function may run for 15 minutes, and is slow at times.
TASK_SECONDS = 300
# A machine of a job is to be busy for about this long, so that its start is a small part of the time.
MACHINE_SECONDS = 1800
MAX_MACHINES = 10
# List prices of us-east-1 in US dollars (docs/cost_and_scale.md): a function of 3,008 MB, an ml.m5.2xlarge.
FUNCTION_SECOND = 3008 / 1024 * 0.0000133334
MACHINE_SECOND = 0.461 / 3600


@dataclass(frozen=True)
class EngineChoice:
    engine: RunEngine
    reason: str
    instance_count: int | None = None


def choose(
    files: Sequence[JobFile], rows: int, tasks: int, *, rows_per_second: int, function_rows: int
) -> EngineChoice:
    """Returns the engine of a run: functions, unless a file or all rows are too many for them.

    ``rows_per_second`` is what one processor does at least. ``function_rows`` is the stage's limit.
    """
    largest = max(files, key=lambda file: file.size_bytes)
    if largest.size_bytes > FUNCTION_FILE_BYTES:
        why = (
            f"the file '{largest.label}' has {largest.size_bytes / 2**30:.1f} GiB, and a function holds files of at "
            f"most {FUNCTION_FILE_BYTES >> 30} GiB"
        )
    elif rows > function_rows:
        why = f"the files have {rows:,} rows, and functions take at most {function_rows:,}"
    else:
        why = f"the files have {rows:,} rows, of the {function_rows:,} that functions take at most"
        return EngineChoice(RunEngine.LAMBDA, f"Functions work on the parts, because {why}.")
    wanted = math.ceil(rows / rows_per_second / MACHINE_SECONDS)
    machines = max(1, min(wanted, tasks, MAX_MACHINES))
    shown = "A SageMaker job with one machine" if machines == 1 else f"A SageMaker job with {machines} machines"
    return EngineChoice(RunEngine.PROCESSING, f"{shown} works on the parts, because {why}.", machines)


def cost_usd(run: Run, worked_seconds: float) -> float:
    """Returns about what AWS charges for parts on which the run's engine worked for these seconds."""
    price = FUNCTION_SECOND if run.engine is RunEngine.LAMBDA else MACHINE_SECOND
    return round(worked_seconds * price, 6)
