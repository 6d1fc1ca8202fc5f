"""Whether files have the columns that the models of a run read, by what scans found, before anything starts."""

from collections.abc import Iterable, Iterator, Sequence

from shared.errors import ConflictError, Detail, ValidationFailedError
from shared.models.checkpoint import Checkpoint
from shared.runs.columns import REPORTED, TYPES, listed, missing_columns
from shared.runs.inputs import InputFile


def require_columns(checkpoints: Iterable[Checkpoint], files: Sequence[InputFile]) -> None:
    """Raises ValidationFailedError naming missing columns, and ConflictError naming those of other types.

    A request without such a field would be decided by the acceptance rate, and so would all customers of the file.
    """
    models = {each.id: each for each in checkpoints}.values()
    missing = [
        detail
        for model in models
        for detail in missing_columns(files, [column.name for column in model.inputs], f" of the model '{model.name}'")
    ]
    if missing:
        raise ValidationFailedError(
            f"body.files: {listed(missing)}. Add the columns, with empty cells where a value is unknown, or name the "
            "actions of other models",
            missing[:REPORTED],
        )
    if changed := [detail for model in models for detail in _changed(model, files)]:
        raise ConflictError(f"Columns have changed since the training: {listed(changed)}", changed[:REPORTED])


def _changed(model: Checkpoint, files: Sequence[InputFile]) -> Iterator[Detail]:
    for each in files:
        types = {column.name: column.type for column in each.entry.columns}
        for column in model.inputs:
            if column.type in TYPES and types[column.name] not in TYPES[column.type]:
                yield Detail(
                    "body.files",
                    f"'{column.name}' of the file '{each.file.label}' has the type {types[column.name]}, and the model "
                    f"'{model.name}' reads {column.type} values",
                )
