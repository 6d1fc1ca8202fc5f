"""Prediction runs: the scores of all rows of files by one checkpoint."""

from pydantic import Field

from shared.models.base import ColumnName, Identifier
from shared.models.run import DuplicateCustomer, Run, RunCreate, RunOutput, RunOutputCreate

# The run is one item, with the names of files.
SHOWN_REPEATS = 20


class PredictionCreate(RunCreate):
    output: RunOutputCreate
    checkpoint_id: Identifier = Field(description="of a checkpoint, or an alias such as `champion`")
    contributions: bool = Field(
        default=False,
        description="also write what each column adds to the log odds; takes several times as long. With a checkpoint "
        "whose `explains_exactly` is false, a part is estimated",
    )
    key_column: ColumnName | None = Field(
        default=None,
        description="column that names the customer; when left out, the first of the policy's fields that a row has",
    )


class PredictionRun(Run):
    """A run. Each row of its output has `client_key`, `probability` and `label`, by the checkpoint's threshold."""

    output: RunOutput
    checkpoint_id: str
    model: str = Field(description="the checkpoint's id or alias, as the request named it")
    threshold: float
    contributions: bool
    key_columns: list[str] = Field(description="the first of these that a row has is its `client_key`")
    duplicates: int | None = Field(
        default=None,
        description="rows about a customer of an earlier row; the first one with a score counts, and the others are "
        "not in the output. Null before the end, and for more than 200 million rows, which are not compared",
    )
    duplicate_rows: list[DuplicateCustomer] = Field(
        default_factory=list, description=f"the first of them, {SHOWN_REPEATS} at most"
    )


# The columns of the output, in the words of Athena and Spark. A table of several runs has them too.
PREDICTION_COLUMNS = {
    "client_key": "string",
    "probability": "double",
    "label": "string",
    "base_value": "double",
    "contributions": "array<struct<column:string,contribution:double>>",
    "reasons": "array<string>",
}
