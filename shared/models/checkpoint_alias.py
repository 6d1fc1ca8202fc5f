"""Checkpoint aliases: names such as ``champion`` that a space moves from one checkpoint to the next."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from shared.models.base import Entity, Identifier, Model

MAX_REQUIRED_BENCHMARKS = 40

AliasName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$"),
    Field(description="lower-case letters, digits and hyphens, 32 characters at most"),
]


def _without_repeats(identifiers: list[str]) -> list[str]:
    return list(dict.fromkeys(identifiers))


class CheckpointAliasPut(Model):
    """New checkpoint of an alias. The gate does not change when ``required_benchmark_ids`` is left out."""

    checkpoint_id: Identifier
    required_benchmark_ids: (
        Annotated[list[Identifier], Field(max_length=MAX_REQUIRED_BENCHMARKS), AfterValidator(_without_repeats)] | None
    ) = Field(
        default=None,
        description="the gate: a checkpoint needs a result on each of these benchmarks, at its current revision",
    )


class CheckpointAlias(Entity):
    """An alias. Its id is its name."""

    checkpoint_id: str
    required_benchmark_ids: list[str]
    updated_by: str
