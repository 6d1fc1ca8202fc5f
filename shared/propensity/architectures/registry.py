"""Which architectures there are, and the check of what a client asks of one."""

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from shared.errors import Detail, ValidationFailedError
from shared.propensity.architectures.configuration import (
    BoostingConfiguration,
    LightGBMConfiguration,
    XGBoostConfiguration,
)

if TYPE_CHECKING:
    from shared.propensity.architectures.base import Architecture


@dataclass(frozen=True)
class ArchitectureDescription:
    """What is known of an architecture without loading its library."""

    name: str
    title: str
    license: str
    source: str
    configuration: type[BoostingConfiguration]
    implementation: str

    def load(self) -> "Architecture[Any]":
        """Returns the implementation; imports the library.

        Raises:
            ImportError: the library isn't installed here.
        """
        module, _, name = self.implementation.partition(":")
        implementation: type[Architecture[Any]] = getattr(importlib.import_module(module), name)
        return implementation()


ARCHITECTURES = {
    description.name: description
    for description in (
        ArchitectureDescription(
            name="lightgbm",
            title="LightGBM gradient-boosted trees",
            license="MIT",
            source="https://github.com/microsoft/LightGBM",
            configuration=LightGBMConfiguration,
            implementation="shared.propensity.architectures.lightgbm:LightGBM",
        ),
        ArchitectureDescription(
            name="xgboost",
            title="XGBoost gradient-boosted trees",
            license="Apache-2.0",
            source="https://github.com/dmlc/xgboost",
            configuration=XGBoostConfiguration,
            implementation="shared.propensity.architectures.xgboost:XGBoost",
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


def validate_configuration(
    architecture: str, configuration: Mapping[str, Any], field: str = "body.configuration"
) -> BoostingConfiguration:
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


def configuration_schemas() -> dict[str, dict[str, Any]]:
    """Returns the JSON schema of each architecture's configuration."""
    return {name: description.configuration.model_json_schema() for name, description in ARCHITECTURES.items()}


def _explain(problem: Mapping[str, Any], schema: type[BoostingConfiguration], architecture: str) -> str:
    if problem["type"] != "extra_forbidden":
        return str(problem["msg"])
    unknown = str(problem["loc"][-1])
    known = list(schema.model_fields)
    nearest = difflib.get_close_matches(unknown, known, n=1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'?" if nearest else f"{architecture} knows {', '.join(known)}"
    return f"unknown key '{unknown[:100]}'; {hint}"
