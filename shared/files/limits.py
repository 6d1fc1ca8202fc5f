"""What one file may cost, and the error a file gets when it cannot be read."""

from dataclasses import dataclass

from shared.bounds import SCANNED_FILE
from shared.files.errors import UnreadableFileError
from shared.models.reading import COLUMNS_LIMIT


@dataclass(frozen=True)
class ReadLimits:
    """Bounds that keep a hostile file from taking the machine with it. Sizes are in bytes."""

    decoded_bytes: int = SCANNED_FILE.size_bytes
    line_bytes: int = 16 << 20
    sample_bytes: int = 4 << 20
    columns: int = COLUMNS_LIMIT
    column_name_characters: int = 256
    # Decoded bytes that one parquet column or one pass over the columns may hold.
    batch_bytes: int = 512 << 20

    def check_columns(self, count: int) -> None:
        """Raises UnreadableFileError for too many columns."""
        if count > self.columns:
            raise UnreadableFileError(f"The file has {count:,} columns; at most {self.columns:,} can be read.")


DEFAULT_LIMITS = ReadLimits()
