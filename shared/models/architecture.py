"""Architectures: the families of models that a training can fit."""

from typing import Any

from pydantic import Field

from shared.models.base import Model


class PublishedArchitecture(Model):
    name: str
    title: str
    is_default: bool = Field(description="the one to choose without a reason for another")
    license: str = Field(description="SPDX identifier of the license of what fits the models")
    source: str
    weights_license: str | None = Field(
        description="license of the weights that this deployment has for it; null: it needs none, or there are none"
    )
    is_available: bool = Field(description="whether a training of this space can use it now")
    unavailable_because: str | None = Field(description="what is missing, and who has to do something about it")
    uses_gpus: bool = Field(description="whether `gpu_count` above 0 makes it train on a GPU; if not, that is 400")
    uses_several_gpus: bool = Field(description="whether it trains on several GPUs together; if not, above 1 is 400")
    uses_several_instances: bool = Field(
        description="whether it trains on several instances together; if not, above 1 is 400"
    )
    exceeds_memory: bool = Field(description="whether it trains on data that do not fit into an instance's memory")
    explains_exactly: bool = Field(
        description="whether contributions are exact; if not, they are estimates that add up to the log odds"
    )
    in_auto: str | None = Field(description="when the architecture `auto` uses it; null: never")
    configuration: dict[str, Any] = Field(description="JSON schema of the training's `configuration`, with defaults")


class Architectures(Model):
    data: list[PublishedArchitecture]
