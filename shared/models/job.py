"""Models of the files that a job exchanges with the platform: ``job.json`` (its input) and its result."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.models.base import Timestamp
from shared.models.reading import ReadOptions

# Of the model files of a checkpoint: what describes its networks, if it has any.
NETWORKS_FILE = "networks.json"
MAX_SERIES_POINTS = 200
# Numbers of a metric that an evaluation keeps for paired comparisons. The error of a difference is known to 7%.
REPLICATES = 96
# Files, or other names, that a report shows. An item has room for so many of the longest ones.
REPORTED_NAMES = 100
# Of an evaluation.
MAX_WARNINGS = 50
MAX_WARNING_CHARACTERS = 500


class JobModel(BaseModel):
    """Part of a job specification. An unknown key is an error, because the platform writes and reads both sides."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), ser_json_inf_nan="null", defer_build=True)


class MetricName(StrEnum):
    """The metrics a model is measured by; all but ``log_loss`` are better when higher."""

    ACCURACY = "accuracy"
    F1 = "f1"
    PRECISION = "precision"
    RECALL = "recall"
    ROC_AUC = "roc_auc"
    LOG_LOSS = "log_loss"
    KS = "ks"
    GINI = "gini"


LOWER_IS_BETTER = frozenset({MetricName.LOG_LOSS})


class IntervalMethod(StrEnum):
    """How an interval was found: all in closed form.

    ``delong``: DeLong's variance, on the scale of log-odds. ``wilson``: Wilson's interval of a proportion. ``delta``:
    the variance of what each row adds to the metric, on the scale of log-odds. ``mean``: the variance of a mean.
    """

    DELONG = "delong"
    WILSON = "wilson"
    DELTA = "delta"
    MEAN = "mean"


class Interval(JobModel):
    """A 95% confidence interval, if rows are independent."""

    low: float
    high: float
    method: IntervalMethod


class Resample(JobModel):
    """A metric's standard error, and its replicates of a bootstrap in which all models share the random signs of rows.

    So the differences between the replicates of two models are those of a paired bootstrap.
    """

    error: float = Field(ge=0, allow_inf_nan=False)
    replicates: str = Field(max_length=400, description="in units of the error: half-precision numbers in Base64")


class JobFile(JobModel):
    """One version of an object. The job refuses any other content under the key."""

    bucket: str
    key: str
    etag: str
    version_id: str | None = None
    size_bytes: int = Field(ge=0)
    format: Literal["csv", "parquet", "jsonl"] | None = None
    name: str | None = Field(default=None, description="its name in the connector")
    scan_id: str | None = Field(default=None, description="the scan that read this content")
    read_options: ReadOptions | None = Field(default=None, description="the connector's and the file's own, in one")

    @classmethod
    def of_object(cls, bucket: str, key: str, found: Mapping[str, Any]) -> "JobFile":
        """Returns the version of an object that S3 returned in ``found``."""
        return cls(
            bucket=bucket,
            key=key,
            etag=found["ETag"].strip('"'),
            version_id=found.get("VersionId"),
            size_bytes=found["ContentLength"],
        )

    @property
    def label(self) -> str:
        """Returns the name for messages to its owner."""
        return self.name or self.key


class JobAccess(JobModel):
    """Access of a job to a connector's bucket. Without a role and credentials, the job uses its own role.

    ``credentials_parameter`` (SSM) or ``credentials_secret_arn`` (Secrets Manager) names a JSON object
    ``{"access_key_id", "secret_access_key"}``: the secret itself is never in ``job.json``.
    """

    region: str | None = None
    endpoint_url: str | None = None
    role_arn: str | None = None
    external_id: str | None = None
    credentials_parameter: str | None = None
    credentials_secret_arn: str | None = None


class JobSplit(JobModel):
    """Rows that are held out from fitting: random (stratified), the latest, whole groups, or as columns suggest."""

    kind: Literal["automatic", "random", "time", "group"] = "automatic"
    column: str | None = None
    test_fraction: float = Field(default=0.2, gt=0, lt=1)

    @model_validator(mode="after")
    def _a_column_where_one_is_needed(self) -> "JobSplit":
        if self.kind in ("time", "group") and not self.column:
            raise ValueError(f"a {self.kind} split needs a column")
        return self


class JobDataset(JobModel):
    """The files of one connector. An evaluation may leave ``target`` out, because the checkpoint has it."""

    connector_id: str
    files: list[JobFile] = Field(min_length=1, max_length=10_000)
    access: JobAccess = Field(default_factory=JobAccess)
    target: str | None = None
    positive_label: str | None = Field(default=None, description="null: the usual one of a known pair, else the rarer")
    split: JobSplit | None = None
    identifying_columns: list[str] = Field(default_factory=list, description="they identify persons: no features")


class JobProgress(JobModel):
    """Address for a job's reports, and the SSM parameter or secret with the ``whsec_…`` signing key."""

    webhook_url: str
    secret_parameter: str | None = None
    secret_arn: str | None = None

    @model_validator(mode="after")
    def _one_secret(self) -> "JobProgress":
        if (self.secret_parameter is None) == (self.secret_arn is None):
            raise ValueError("give one of secret_parameter and secret_arn")
        return self


class JobWeights(JobModel):
    """The weights of an architecture in the deployment's bucket. The job refuses any other content under the key."""

    bucket: str
    key: str
    sha256: str
    license: str


class TrainingJob(JobModel):
    """``job.json`` of a training."""

    kind: Literal["training"] = "training"
    training_id: str
    space_id: str
    data_model_id: str | None = None
    architecture: str
    configuration: dict[str, Any] = Field(default_factory=dict)
    gpu_count: int = Field(default=0, ge=0, description="of each instance")
    instance_count: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**31)
    datasets: list[JobDataset] = Field(min_length=1)
    weights: JobWeights | None = None
    metrics: list[MetricName] = Field(default_factory=lambda: list(MetricName))
    progress: JobProgress | None = None
    save_interval_seconds: float = Field(
        default=1.0, ge=0, description="least time between two saves during fitting; large models are saved less often"
    )

    @model_validator(mode="after")
    def _a_target(self) -> "TrainingJob":
        if len(targets := {dataset.target for dataset in self.datasets if dataset.target}) != 1:
            raise ValueError(f"the data sets of a training share one target column, not {sorted(targets)}")
        return self

    @property
    def positive_label(self) -> str | None:
        """Returns the label with the predicted probability, if a data set names it."""
        return next((dataset.positive_label for dataset in self.datasets if dataset.positive_label), None)

    @property
    def split(self) -> JobSplit:
        """Returns the first split that a data set gives, or else the automatic one."""
        return next((dataset.split for dataset in self.datasets if dataset.split), JobSplit())

    @property
    def target(self) -> str:
        """Returns the target column, which is the same in every data set."""
        return next(dataset.target for dataset in self.datasets if dataset.target)


class EvaluationJob(JobModel):
    """``job.json`` of an evaluation. SageMaker's ``model`` channel has the checkpoint."""

    kind: Literal["evaluation"] = "evaluation"
    evaluation_id: str
    space_id: str
    checkpoint_id: str
    benchmark_id: str
    gpu_count: int = Field(default=0, ge=0)
    datasets: list[JobDataset] = Field(min_length=1)
    metrics: list[MetricName] = Field(min_length=1)
    progress: JobProgress | None = None


class SeriesPoint(JobModel):
    """One value of a metric at one boosting round (``step``)."""

    name: str
    value: float
    step: int
    at: Timestamp


class JobEstimate(JobModel):
    """When a job has fitted its models, as far as it can tell."""

    share_done: float = Field(ge=0, le=1)
    seconds_left: float = Field(ge=0, le=10**7)


class JobReport(JobModel):
    """What a job has reported last."""

    model_config = ConfigDict(extra="ignore")

    reported_at: Timestamp
    points: list[SeriesPoint]
    estimate: JobEstimate | None = None


class CurvePoint(JobModel):
    """The confusion rates when everything scored ``threshold`` or above is called positive."""

    threshold: float | None = Field(description="null at the start of the curve, where nothing is called positive")
    true_positive_rate: float
    false_positive_rate: float


class ReliabilityBin(JobModel):
    """Rows with similar probabilities, and the share of them that is positive, with its 95% interval."""

    rows: int
    mean_probability: float
    positive_rate: float
    low: float
    high: float


class CalibrationMeasurement(JobModel):
    """How well probabilities fit the labels of some rows.

    Perfect ones have a slope of 1 and an intercept of 0: those of a logistic regression of the labels on the log-odds.
    """

    bins: list[ReliabilityBin] = Field(max_length=20, description="the reliability table, about equal numbers of rows")
    expected_error: float = Field(description="ECE: mean distance of probability and share over the bins, by rows")
    brier: float = Field(description="mean square of the distance of probability and label")
    slope: float | None = None
    intercept: float | None = None


class Measurement(JobModel):
    """Quality of a model on some rows."""

    metrics: dict[MetricName, float | None]
    reasons: dict[MetricName, str] = Field(default_factory=dict, description="why a metric is null")
    intervals: dict[MetricName, Interval] = Field(default_factory=dict)
    rows: int
    positives: int
    curve: list[CurvePoint] = Field(
        default_factory=list,
        max_length=MAX_SERIES_POINTS,
        description="ROC points; KS is the largest difference between their rates",
    )
    calibration: CalibrationMeasurement | None = None
    raw_calibration: CalibrationMeasurement | None = Field(
        default=None, description="without the checkpoint's calibration; null if it has none"
    )


class ReportedFile(JobModel):
    """A file that a job has read, in the version that it read."""

    name: str
    version: str = Field(description="its version in the bucket, or its ETag")
    size_bytes: int

    @classmethod
    def of(cls, files: Sequence[JobFile]) -> "list[ReportedFile]":
        """Returns the first of these files."""
        return [
            cls(name=each.label, version=each.version_id or each.etag, size_bytes=each.size_bytes)
            for each in files[:REPORTED_NAMES]
        ]


class EvaluationResult(JobModel):
    """``result.json`` of an evaluation, in the job's model artifact."""

    measurement: Measurement
    resamples: dict[MetricName, Resample] = Field(default_factory=dict)
    threshold: float | None = None
    files: list[ReportedFile] = Field(default_factory=list, max_length=REPORTED_NAMES)
    file_count: int = 0
    excluded_training_rows: int = Field(
        description="rows of the benchmark left out because the model was fitted on them"
    )
    dropped_rows: int = Field(description="rows without a usable target")
    duration_seconds: float
    warnings: list[str] = Field(
        default_factory=list, max_length=MAX_WARNINGS, description="doubts about the benchmark's data, the worst first"
    )


class InputColumn(JobModel):
    """Part of a feature in ``checkpoint.json``."""

    model_config = ConfigDict(extra="ignore")

    name: str
    kind: str


class InputColumns(JobModel):
    model_config = ConfigDict(extra="ignore")

    features: list[InputColumn]


class CheckpointMetadata(JobModel):
    """Fields of ``checkpoint.json`` that are read outside the scorer."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    format_version: int
    architecture: str
    target: str
    positive_label: str
    negative_label: str
    threshold: float
    threshold_rule: str = ""
    measurement: Measurement
    series: Annotated[list[SeriesPoint], Field(max_length=MAX_SERIES_POINTS * 4)]
    notes: list[str] = Field(default_factory=list, description="remarks for the user about the data and the fit")


class CalibrationKind(JobModel):
    """Part of ``checkpoint.json``: what corrects the model's probabilities."""

    model_config = ConfigDict(extra="ignore")

    kind: str


class HoldoutKind(JobModel):
    """Part of ``checkpoint.json``: how rows were held out."""

    model_config = ConfigDict(extra="ignore")

    kind: str
    column: str | None = None


class CheckpointSummary(CheckpointMetadata):
    """``checkpoint.json`` with the columns that the model reads, and what reports say of its training."""

    features: InputColumns = InputColumns(features=[])
    calibration: CalibrationKind | None = None
    configuration: dict[str, Any] = Field(default_factory=dict)
    seed: int | None = None
    holdout: HoldoutKind | None = None
    trained_files: list[JobFile] = Field(default_factory=list)
    trained_rows: int | None = None
    library_versions: dict[str, str] = Field(default_factory=dict)
    model_files: list[str] = Field(default_factory=list)

    @property
    def explains_exactly(self) -> bool:
        """Returns whether no part of the model is a network, whose contributions are estimates."""
        return NETWORKS_FILE not in self.model_files
