"""Whether the columns of files are those that a model was trained on, by what scans found, before anything starts."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from shared.errors import ConflictError, Detail, ValidationFailedError
from shared.models.catalog import CatalogColumn
from shared.models.client_key import ClientKeyRule
from shared.propensity.features import EXPECTED, Feature, encode_cells, is_unread
from shared.runs.columns import REPORTED, TYPES, listed, missing_columns
from shared.runs.inputs import InputFile

if TYPE_CHECKING:
    from shared.propensity.features import FeatureSchema


def require_fitting(schema: "FeatureSchema", files: Sequence[InputFile]) -> None:
    """Raises ValidationFailedError naming missing columns, and ConflictError naming those with other values."""
    missing = list(missing_columns(files, [feature.name for feature in schema.features]))
    if missing:
        raise ValidationFailedError(f"body.files: {listed(missing)}", missing[:REPORTED])
    changed = list(_changed(schema, files))
    if changed:
        raise ConflictError(f"Columns have changed since the training: {listed(changed)}", changed[:REPORTED])


def key_columns(rule: ClientKeyRule, files: Sequence[InputFile], stated: str | None) -> list[str]:
    """Returns the columns of which the first that a row has names its customer: the stated one, or those of the rule.

    Raises ValidationFailedError for a file without any of them.
    """
    found: dict[str, None] = {}
    for each in files:
        names = [column.name for column in each.entry.columns]
        columns = rule.columns_of(names) if stated is None else [name for name in names if name == stated]
        if not columns:
            lacks = (
                f"no field of the policy is a column of the file '{each.file.label}': send the column that names the "
                "customer"
                if stated is None
                else f"the file '{each.file.label}' has no such column"
            )
            raise ValidationFailedError.of("body.key_column", lacks)
        found |= dict.fromkeys(columns)
    return rule.columns_of(found) if stated is None else list(found)


def _changed(schema: "FeatureSchema", files: Sequence[InputFile]) -> Iterator[Detail]:
    for each in files:
        columns = {column.name: column for column in each.entry.columns}
        for feature in schema.features:
            if feature.kind in EXPECTED and not _fits(feature, columns[feature.name]):
                yield Detail(
                    "body.files",
                    f"'{feature.name}' of the file '{each.file.label}' has the type {columns[feature.name].type}, and "
                    f"must be {feature.expected}",
                )


def _fits(feature: Feature, column: CatalogColumn) -> bool:
    """Returns whether the model can read the column. Of text, its most frequent values decide."""
    if column.type not in TYPES[feature.kind]:
        return False
    cells = [top.value for top in column.top_values] if column.type == "string" else []
    if not cells:
        return True
    encoded = encode_cells(feature, cells)[0]
    return any(value == value or not is_unread(feature, cell) for value, cell in zip(encoded, cells, strict=True))
