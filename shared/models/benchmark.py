"""Benchmarks: data and metrics that compare checkpoints."""

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from shared.models.base import KEEP, Description, Entity, Identifier, Model, Name, PartialUpdate
from shared.models.connector_training import ConnectorTraining, ConnectorTrainings
from shared.models.job import MetricName


class Task(StrEnum):
    BINARY_CLASSIFICATION = "binary_classification"


def _without_repeats(metrics: list[MetricName]) -> list[MetricName]:
    return list(dict.fromkeys(metrics))


Metrics = Annotated[
    list[MetricName],
    Field(min_length=1, max_length=100, description="a repeated metric counts once"),
    AfterValidator(_without_repeats),
]


class BenchmarkCreate(Model):
    connectors: ConnectorTrainings
    description: Description
    metrics: Metrics
    name: Name
    task: Task


class BenchmarkUpdate(PartialUpdate):
    connector: Annotated[Identifier, Field(description="replaces all connectors by this one")] = KEEP
    connectors: ConnectorTrainings = KEEP
    description: Description = KEEP
    metrics: Metrics = KEEP
    name: Name = KEEP
    task: Task = KEEP


class Benchmark(Entity):
    """``revision`` grows when connectors or metrics change. Results of different revisions are never compared."""

    connectors: list[ConnectorTraining]
    created_by: str
    description: str
    metrics: list[MetricName]
    name: str
    revision: int = 1
    task: Task
    updated_by: str
