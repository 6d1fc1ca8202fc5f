"""Works on the tasks of a run that one machine of a SageMaker processing job got."""

import traceback
from pathlib import Path

from shared.errors import JobFailedError
from shared.models.run import RunTask
from shared.runs.tasks import TaskWorker
from shared.runs.work import PartWork

# As often as the workflow invokes a function.
ATTEMPTS = 3


def work_on_all(worker: TaskWorker, tasks: Path, work: PartWork) -> None:
    """Works on the tasks of a folder. One that fails three times leaves the others their turn.

    The run names the parts that have failed.
    """
    for file in sorted(tasks.glob("*.json")):
        _work_on(worker, RunTask.model_validate_json(file.read_bytes()), work)


def _work_on(worker: TaskWorker, task: RunTask, work: PartWork) -> None:
    for _ in range(ATTEMPTS):
        try:
            worker.work_on(task, work)
        except JobFailedError:
            # No repetition mends it, and the worker has noted the reason.
            return
        except Exception:  # noqa: BLE001 - one task must not stop the others
            traceback.print_exc()
        else:
            return
