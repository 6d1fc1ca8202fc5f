"""The version of what each kind of item looks like, and the steps from older versions to it.

The first part of ``PK`` is the item's kind. An item without the attribute ``schema_version`` has version 1. A kind has
one version more than steps. Items are read as if they had the newest version, and keep theirs until somebody writes
them as a whole (``python -m infra.operations migrate`` does so).

A release changes a kind by one more step at the end, and never changes an earlier one. A step takes an item of its
version as a whole and returns the next one. It must accept items that it has changed before, because updates of single
attributes keep the version of the item. Queries that ask for single attributes get them as they are stored.
"""

from collections.abc import Callable, Mapping
from typing import Any

from shared.errors import UnavailableError

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
Upgrades = Mapping[str, tuple[Upgrade, ...]]

SCHEMA_VERSION = "schema_version"

_NO_STEPS: tuple[Upgrade, ...] = ()
ENTITIES: Upgrades = dict.fromkeys(
    (
        "action", "action_group", "api_key", "api_key_entry", "argument", "argument_change", "argument_comment",
        "argument_index", "audit", "benchmark", "catalog", "chat", "chat_turn", "checkpoint", "checkpoint_alias",
        "checkpoint_gate", "client_erasure", "cluster", "connector", "data_model", "evaluation", "decision_run",
        "decision_run_part", "expert",
        "expert_version", "insight", "insight_contact", "insight_experiment", "insight_policy", "insight_rate",
        "insight_reaction", "invite", "invite_email", "job", "limit_usage", "member", "membership", "object",
        "persona", "persona_key", "persona_upload", "prediction", "prediction_part", "removal", "run_erasure",
        "run_output", "scan", "schema_drift", "score", "space", "space_usage", "training", "user", "webhook",
        "webhook_delivery", "webhook_delivery_index", "webhook_endpoint", "webhook_endpoint_secret",
    ),
    _NO_STEPS,
)  # fmt: skip


def _with_entries(item: dict[str, Any]) -> dict[str, Any]:
    """Returns an item that the migration gave its entries in new lists. The item itself has not changed."""
    return item


ENTITIES = {**ENTITIES, "audit": (_with_entries,), "webhook_delivery": (_with_entries,)}
LOGS: Upgrades = dict.fromkeys(
    ("log", "log_correlation", "log_counted", "log_model", "log_rollup", "log_tag", "log_text", "log_user"), _NO_STEPS
)
SCHEMAS: Upgrades = {**ENTITIES, **LOGS}


class NewerSchemaError(UnavailableError):
    """Error raised for an item that a newer release has written. To guess at it could destroy it."""


def kind_of(item: dict[str, Any]) -> str:
    return str(item["PK"]).partition("#")[0]


def version_of(item: dict[str, Any]) -> int:
    """Returns the version that an item was stored in."""
    return int(item.get(SCHEMA_VERSION, 1))


def newest(kind: str, schemas: Upgrades = SCHEMAS) -> int:
    return len(schemas.get(kind, _NO_STEPS)) + 1


def upgraded(item: dict[str, Any], schemas: Upgrades = SCHEMAS) -> dict[str, Any]:
    """Returns the item in the newest version, without its number. Raises NewerSchemaError."""
    steps = schemas.get(kind_of(item), _NO_STEPS)
    if not steps and SCHEMA_VERSION not in item:
        return item
    version = version_of(item)
    if version > len(steps) + 1:
        raise NewerSchemaError(
            f"A newer release stored this {kind_of(item)} (version {version}). Deploy that release again."
        )
    for step in steps[version - 1 :]:
        item = step(item)
    return {name: value for name, value in item.items() if name != SCHEMA_VERSION}


def stamped(item: dict[str, Any], schemas: Upgrades = SCHEMAS) -> dict[str, Any]:
    """Returns an item to write, with the number of its version. Version 1 is not written, for most kinds have it."""
    version = newest(kind_of(item), schemas)
    return item if version == 1 else {**item, SCHEMA_VERSION: version}
