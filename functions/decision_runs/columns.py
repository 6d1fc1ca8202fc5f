"""Whether files have the columns that the models of a run read, by what scans found, before anything starts."""

from collections.abc import Iterator, Mapping, Sequence

from shared.errors import ConflictError, Detail, ValidationFailedError
from shared.models.checkpoint import Checkpoint, CheckpointInput
from shared.runs.columns import REPORTED, TYPES, listed
from shared.runs.inputs import InputFile


def require_columns(checkpoints: Mapping[str, Checkpoint], files: Sequence[InputFile]) -> None:
    """Raises ValidationFailedError naming missing columns, and ConflictError naming those of other types.

    A request without such a field would be decided by the acceptance rate, and so would all customers of the file.
    """
    read = {each.name: (each, checkpoint) for checkpoint in checkpoints.values() for each in checkpoint.inputs}
    if missing := list(_missing(read, files)):
        raise ValidationFailedError(
            f"body.files: {listed(missing)}. Add the columns, with empty cells where a value is unknown, or name the "
            "actions of other models",
            missing[:REPORTED],
        )
    if changed := list(_changed(read, files)):
        raise ConflictError(f"Columns have changed since the training: {listed(changed)}", changed[:REPORTED])


def _missing(read: Mapping[str, tuple[CheckpointInput, Checkpoint]], files: Sequence[InputFile]) -> Iterator[Detail]:
    for each in files:
        names = {column.name for column in each.entry.columns}
        for name, (_, checkpoint) in read.items():
            if name not in names:
                message = f"the file '{each.file.label}' lacks the column '{name}' of the model '{checkpoint.name}'"
                yield Detail("body.files", message)


def _changed(read: Mapping[str, tuple[CheckpointInput, Checkpoint]], files: Sequence[InputFile]) -> Iterator[Detail]:
    for each in files:
        types = {column.name: column.type for column in each.entry.columns}
        for name, (column, checkpoint) in read.items():
            if types[name] not in TYPES.get(column.type, {types[name]}):
                yield Detail(
                    "body.files",
                    f"'{name}' of the file '{each.file.label}' has the type {types[name]}, and the model "
                    f"'{checkpoint.name}' reads {column.type} values",
                )
