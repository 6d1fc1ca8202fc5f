"""Plans of runs: the files cut into parts, and the parts in tasks. They are in S3, beside the finished parts.

Below ``temporary/spaces/<space>/runs/<work id>/``, which S3 empties after a month, are ``plan.json``, the tasks
(``tasks.json`` for functions, ``tasks/<n>.json`` for the machines of a job) and ``parts/``: the output of each finished
part, until all of it is published. ``customers/`` has the customers of its rows, where the output does not.
"""

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from shared.models.run import PARTS, RunPart, RunPlan, RunTask
from shared.runs.inputs import RunInputs

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Records of a part, each of which becomes one file of the output.
PART_ROWS = 250_000
# The folder of the customers of finished parts.
CUSTOMERS = "customers"
# How long a restart finds the finished parts. S3 keeps them for some days more.
KEPT = timedelta(days=21)
_TASKS = TypeAdapter(list[RunTask])


def tasks_of(inputs: RunInputs, task_rows: int, part_rows: int) -> list[RunTask]:
    """Returns the tasks of a run, each of one file and of about ``task_rows`` rows."""
    tasks: list[RunTask] = []
    number = 0
    parts_of_task = max(1, task_rows // part_rows)
    for each in inputs.files:
        count = max(1, math.ceil(each.rows / part_rows))
        # Blank lines are records too, so nobody knows where the last part ends.
        parts = [
            RunPart(number=number + place, first=place * part_rows, records=part_rows if place < count - 1 else None)
            for place in range(count)
        ]
        number += count
        tasks += [
            RunTask(file=each.file, parts=parts[start : start + parts_of_task])
            for start in range(0, count, parts_of_task)
        ]
    return tasks


class Plans:
    """The plans of all runs."""

    def __init__(self, s3: "S3Client", bucket: str) -> None:
        self._s3 = s3
        self.bucket = bucket

    def save(self, plan: RunPlan, tasks: Sequence[RunTask]) -> None:
        """Stores a plan with its tasks."""
        self.renew(plan)
        self._put(self.tasks_key(plan.space_id, plan.work_id), _TASKS.dump_json(list(tasks)))

    def renew(self, plan: RunPlan) -> None:
        """Stores a plan, and leaves its tasks."""
        folder = self.folder(plan.space_id, plan.work_id)
        self._put(f"{folder}plan.json", plan.model_dump_json().encode())

    def load(self, space_id: str, work_id: str) -> RunPlan:
        """Returns the plan of a run."""
        return RunPlan.model_validate_json(self._get(f"{self.folder(space_id, work_id)}plan.json"))

    def tasks(self, space_id: str, work_id: str) -> list[RunTask]:
        """Returns the tasks of a run."""
        return _TASKS.validate_json(self._get(self.tasks_key(space_id, work_id)))

    def spread(self, space_id: str, work_id: str, tasks: Sequence[RunTask]) -> str:
        """Stores each task as an object, for a job that shares them out to its machines. Returns their prefix."""
        prefix = f"{self.folder(space_id, work_id)}tasks/"
        for number, task in enumerate(tasks):
            self._put(f"{prefix}{number:05d}.json", task.model_dump_json().encode())
        return prefix

    def tasks_key(self, space_id: str, work_id: str) -> str:
        """Returns the key of the list of tasks."""
        return f"{self.folder(space_id, work_id)}tasks.json"

    def folder(self, space_id: str, work_id: str) -> str:
        """Returns the prefix of all objects of a run."""
        return f"temporary/spaces/{space_id}/runs/{work_id}/"

    def work_ids(self, space_id: str) -> set[str]:
        """Returns the ids under which a space has plans: of runs that have not succeeded, until they are cleaned up."""
        prefix = f"temporary/spaces/{space_id}/runs/"
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        keys = (each["Key"] for page in pages for each in page.get("Contents", []))
        return {key.removeprefix(prefix).partition("/")[0] for key in keys}

    def part_key(self, space_id: str, work_id: str, number: int, folder: str = PARTS) -> str:
        """Returns the key of what a folder has of a part before it is published."""
        return f"{self.folder(space_id, work_id)}{folder}/{part_file(number)}"

    def _put(self, key: str, content: bytes) -> None:
        self._s3.put_object(Bucket=self.bucket, Key=key, Body=content, ContentType="application/json")

    def _get(self, key: str) -> Any:
        return self._s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()


def part_file(number: int) -> str:
    """Returns the name of a part's file."""
    return f"part-{number:05d}.parquet"
