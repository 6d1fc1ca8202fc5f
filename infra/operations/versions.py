"""Deletes old versions of the API's functions. Each costs as much for its snapshot as the version in use."""

from collections.abc import Iterator
from dataclasses import dataclass

import boto3

from infra.groups import AUTHORIZE, GROUPS

ALIAS = "live"
UNPUBLISHED = "$LATEST"


@dataclass(frozen=True)
class OldVersion:
    """Version of a function that serves no requests."""

    function: str
    version: str


def old_versions(session: boto3.Session, stage: str, keep: int) -> Iterator[OldVersion]:
    """Yields the versions of a stage's functions that serve no requests, except the ``keep`` newest of each function.

    Raises ClientError if a function or its alias is missing.
    """
    lambda_ = session.client("lambda")
    for spec in (*GROUPS, AUTHORIZE):
        function = f"inference-{stage}-{spec.name}"
        alias = lambda_.get_alias(FunctionName=function, Name=ALIAS)
        serving = {alias["FunctionVersion"], *alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})}
        pages = lambda_.get_paginator("list_versions_by_function").paginate(FunctionName=function)
        versions = (one["Version"] for page in pages for one in page["Versions"])
        idle = sorted((one for one in versions if one not in {UNPUBLISHED, *serving}), key=int, reverse=True)
        yield from (OldVersion(function, version) for version in idle[keep:])


def delete(session: boto3.Session, old: OldVersion) -> None:
    session.client("lambda").delete_function(FunctionName=old.function, Qualifier=old.version)
