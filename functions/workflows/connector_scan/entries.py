"""Makes the catalog entry of a local file. It runs in a child process, because customers write the files."""

from pathlib import Path
from typing import Any

from functions.workflows.connector_scan.column_details import ColumnDetails
from functions.workflows.connector_scan.profile import ColumnProfile, profile_file
from shared.files.limits import ReadLimits
from shared.models.catalog import CatalogColumn, CatalogEntry, CatalogStatus
from shared.models.reading import ReadOptions


def read_entry(path: str, file: str, decoded_bytes: int, options: dict[str, Any]) -> dict[str, Any]:
    """Returns the JSON of the file's entry. Raises UnreadableFileError."""
    limits = ReadLimits(decoded_bytes=decoded_bytes)
    stated = ReadOptions.model_validate(options)
    profile = profile_file(Path(path), file.rpartition("/")[2], limits=limits, options=stated)
    notes = profile.notes
    return CatalogEntry(
        file=file,
        format=profile.format.value,
        rows=profile.rows,
        columns=[
            _column(column, profile.details.get(column.name, ColumnDetails()), notes.formats.get(column.name, []))
            for column in profile.columns
        ],
        sampled_rows=profile.sampled_rows,
        status=CatalogStatus.SCANNED,
        encoding=notes.encoding,
        dialect=notes.dialect,
        warnings=notes.warnings,
        warning_count=notes.warning_count,
        affected_rows=notes.affected_rows,
    ).model_dump(mode="json")


def _column(column: ColumnProfile, details: ColumnDetails, formats: list[str]) -> CatalogColumn:
    found = details.personal_data
    bounds = (None, None) if found and found.is_direct else (column.minimum, column.maximum)
    return CatalogColumn(
        name=column.name,
        type=column.type.value,
        nulls=column.nulls,
        distinct=column.distinct,
        distinct_is_estimate=column.distinct_is_estimate,
        min=bounds[0],
        max=bounds[1],
        quantiles=details.quantiles,
        top_values=list(details.top_values),
        personal_data=found,
        formats=formats,
    )
