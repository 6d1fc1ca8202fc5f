"""Which architectures there are, and the check of what a client asks of one."""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from shared.errors import Detail, ValidationFailedError
from shared.propensity.architectures.configuration import (
    AdditiveCatBoostConfiguration,
    AdditiveConfiguration,
    ArchitectureConfiguration,
    AutoConfiguration,
    CatBoostConfiguration,
    LightGBMConfiguration,
    TabICLConfiguration,
    TabMConfiguration,
    XGBoostConfiguration,
)

DEFAULT_ARCHITECTURE = "auto"


@dataclass(frozen=True)
class ArchitectureDescription:
    """What is known of an architecture; the jobs' ``families.py`` knows how to fit it."""

    name: str
    title: str
    license: str
    source: str
    configuration: type[ArchitectureConfiguration]
    uses_gpus: bool = False
    # Several workers together: one for each GPU, on one instance or several.
    uses_workers: bool = False
    # Data that do not fit into the memory are read again from disk.
    exceeds_memory: bool = False
    # Contributions are exact, not estimated. A blend is as exact as its members.
    explains_exactly: bool = True
    # When ``auto`` fits it.
    in_auto: str = ""
    # Where in the deployment's bucket its operator puts the weights that it needs.
    weights_key: str = ""

    def most(self, field: Literal["gpu_count", "instance_count"]) -> float:
        """Returns how many GPUs or instances it can use."""
        if self.uses_workers:
            return math.inf
        return 1 if self.uses_gpus or field == "instance_count" else 0


_CATBOOST = "https://github.com/catboost/catboost"
ARCHITECTURES = {
    description.name: description
    for description in (
        ArchitectureDescription(
            name="auto",
            title="Several architectures together, weighted by how well they predict rows that they have not seen",
            license="MIT",
            source="functions/jobs/fitting/auto.py",
            configuration=AutoConfiguration,
            uses_gpus=True,
        ),
        ArchitectureDescription(
            name="additive",
            title="Scorecard: a table of each column, whose values add up",
            license="MIT",
            source="functions/jobs/fitting/additive.py",
            configuration=AdditiveConfiguration,
            in_auto="always, with any time; below 20,000 rows also with straight lines",
        ),
        ArchitectureDescription(
            name="lightgbm",
            title="LightGBM gradient-boosted trees",
            license="MIT",
            source="https://github.com/microsoft/LightGBM",
            configuration=LightGBMConfiguration,
            uses_gpus=True,
            in_auto="from 20,000 rows on",
        ),
        ArchitectureDescription(
            name="xgboost",
            title="XGBoost gradient-boosted trees",
            license="Apache-2.0",
            source="https://github.com/dmlc/xgboost",
            configuration=XGBoostConfiguration,
            uses_gpus=True,
            uses_workers=True,
            exceeds_memory=True,
            in_auto="below 20,000 rows, and with GPUs",
        ),
        ArchitectureDescription(
            name="catboost",
            title="CatBoost gradient-boosted symmetric trees",
            license="Apache-2.0",
            source=_CATBOOST,
            configuration=CatBoostConfiguration,
            in_auto="below 20,000 rows with depths of 4 and 6, from there on with a depth of 8",
        ),
        ArchitectureDescription(
            name="additive_catboost",
            title="CatBoost on top of a scorecard",
            license="Apache-2.0",
            source=_CATBOOST,
            configuration=AdditiveCatBoostConfiguration,
            in_auto="below 20,000 rows",
        ),
        ArchitectureDescription(
            name="tabm",
            title="TabM neural networks: perceptrons that share most of their weights",
            license="BSD-3-Clause",
            source="https://arxiv.org/abs/2410.24210",
            configuration=TabMConfiguration,
            uses_gpus=True,
            uses_workers=True,
            explains_exactly=False,
            in_auto="from 100,000 rows on, with GPUs",
        ),
        ArchitectureDescription(
            name="tabicl",
            title="Trees taught by TabICL, a transformer that learns from the rows it is shown",
            license="BSD-3-Clause",
            source="https://github.com/soda-inria/tabicl",
            configuration=TabICLConfiguration,
            uses_gpus=True,
            weights_key="weights/tabicl.ckpt",
        ),
    )
}


def describe_architecture(name: str, field: str = "body.architecture") -> ArchitectureDescription:
    """Returns the architecture of that name.

    Raises:
        ValidationFailedError: no architecture has the name; the message lists the choices.
    """
    if description := ARCHITECTURES.get(name):
        return description
    raise ValidationFailedError.of(
        field, f"unknown architecture '{name[:100]}'; choose one of {', '.join(ARCHITECTURES)}"
    )


def check_hardware(name: str, gpu_count: int, instance_count: int) -> None:
    """Checks that the architecture uses all of the hardware that is asked for.

    Raises:
        ValidationFailedError: it doesn't; the message names the architectures that do.
    """
    chosen = describe_architecture(name)
    hardware: dict[Literal["gpu_count", "instance_count"], int] = {
        "gpu_count": gpu_count,
        "instance_count": instance_count,
    }
    for field, count in hardware.items():
        able = [each.name for each in ARCHITECTURES.values() if each.most(field) >= count]
        if name not in able:
            raise ValidationFailedError.of(
                f"body.{field}",
                f"the architecture {name} cannot use so many; set {field} to {chosen.most(field):.0f}, or choose one "
                f"that can: {', '.join(able)}",
            )


def names_beyond_memory() -> str:
    """Returns the names of the architectures that train on data larger than the memory."""
    return ", ".join(each.name for each in ARCHITECTURES.values() if each.exceeds_memory)


def validate_configuration(
    architecture: str, configuration: Mapping[str, Any], field: str = "body.configuration"
) -> ArchitectureConfiguration:
    """Returns the configuration as its architecture reads it.

    Raises:
        ValidationFailedError: unknown architecture, an unknown key (the nearest known one is named), or a value out of
            range; each detail carries the path below ``field``.
    """
    schema = describe_architecture(architecture).configuration
    try:
        return schema.model_validate(dict(configuration))
    except ValidationError as error:
        details = [
            Detail(".".join((field, *(str(part) for part in problem["loc"]))), _explain(problem, schema, architecture))
            for problem in error.errors(include_url=False, include_context=False)
        ]
    raise ValidationFailedError("; ".join(f"{detail.field}: {detail.message}" for detail in details[:10]), details)


def configuration_schemas(references: str = "#/$defs/{model}") -> dict[str, dict[str, Any]]:
    """Returns the JSON schema of each architecture's configuration. ``references`` is how its parts are named."""
    return {
        name: description.configuration.model_json_schema(ref_template=references)
        for name, description in ARCHITECTURES.items()
    }


def _explain(problem: Mapping[str, Any], schema: type[ArchitectureConfiguration], architecture: str) -> str:
    if problem["type"] != "extra_forbidden":
        return str(problem["msg"])
    unknown = str(problem["loc"][-1])
    if len(problem["loc"]) > 1:
        return f"unknown key '{unknown[:100]}'"
    known = list(schema.model_fields)
    nearest = difflib.get_close_matches(unknown, known, n=1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'?" if nearest else f"{architecture} knows {', '.join(known)}"
    return f"unknown key '{unknown[:100]}'; {hint}"
