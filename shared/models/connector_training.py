"""Files of a connector that a training learns from or a benchmark measures on."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, Field, StringConstraints, model_validator

from shared.models.base import ColumnName, Identifier, Model

MAX_CONNECTORS = 20
TOTAL_SIZE_LIMIT = 200_000

SelectedFile = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
# A label such as 1 is the same as "1": files hold text.
Label = Annotated[str, StringConstraints(min_length=1, max_length=500), Field(coerce_numbers_to_str=True)]


class Split(Model):
    """Rule for the rows that are held out from fitting: random (stratified), the latest by a column, or whole groups.

    ``automatic`` takes the latest rows if a column says when each row was observed, whole groups if a column names
    clients with several rows, and random rows otherwise. The training's ``notes`` name the rule that was used.
    """

    kind: Literal["automatic", "random", "time", "group"] = "automatic"
    column: ColumnName | None = None
    test_fraction: float = Field(default=0.2, gt=0, lt=1, strict=True)

    @model_validator(mode="after")
    def _a_column_where_one_is_needed(self) -> "Split":
        if self.kind in ("time", "group") and self.column is None:
            raise ValueError(f"a {self.kind} split needs a column")
        if self.kind == "automatic" and self.column is not None:
            raise ValueError("a column needs a kind beside it: time or group")
        return self


class ConnectorTraining(Model):
    """One connector's part of the data: its files, the target column, and the rule for held-out rows."""

    connector_id: Identifier = Field(validation_alias=AliasChoices("connector_id", "id"))
    files: list[SelectedFile] | None = Field(
        default=None,
        min_length=1,
        max_length=1000,
        description="names relative to the connector; all files when left out",
    )
    target: ColumnName | None = None
    positive_label: Label | None = None
    split: Split | None = None

    def job_settings(self) -> dict[str, Any]:
        """Returns a data set's settings for the job: target, positive label and split."""
        known = (
            None if self.split is None else {name: getattr(self.split, name) for name in type(self.split).model_fields}
        )
        return {"target": self.target, "positive_label": self.positive_label, "split": known}


class ConnectorTrainingUpdate(Model):
    """Changes to one connector's part. An absent field keeps its value; ``null`` clears it."""

    connector_id: Identifier = Field(validation_alias=AliasChoices("connector_id", "id"))
    files: list[SelectedFile] | None = Field(default=None, min_length=1, max_length=1000)
    target: ColumnName | None = None
    positive_label: Label | None = None
    split: Split | None = None


def _each_once(connectors: list[ConnectorTraining]) -> list[ConnectorTraining]:
    """Returns one entry for each connector: its last entry, at the position of its first."""
    if sum(len(connector.model_dump_json()) for connector in connectors) > TOTAL_SIZE_LIMIT:
        raise ValueError(f"hold too much: at most {TOTAL_SIZE_LIMIT} characters; leave `files` out to take all files")
    return list({connector.connector_id: connector for connector in connectors}.values())


ConnectorTrainings = Annotated[
    list[ConnectorTraining],
    Field(min_length=1, max_length=MAX_CONNECTORS, description="a connector given again replaces its earlier entry"),
    AfterValidator(_each_once),
]
