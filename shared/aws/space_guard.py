"""Refuses AWS calls that leave the space of the request or step that makes them.

Keys are made of the space's id everywhere, so no call should ever be refused. A refusal is a defect: it is a 500, and
each one counts towards an alarm. docs/decisions/0046-isolation-in-iam.md explains why a check in the process does this.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from shared.aws.leading_keys import table_accesses
from shared.observability import count, logger
from shared.space_binding import bound_space

METRIC = "ForeignSpaceCalls"
# Kinds whose partitions do not name a space: items of users, of jobs by their ids, and of signatures.
SHARED_KINDS = frozenset({"invite_email", "job", "membership", "removal", "user", "webhook"})
# Lists of all spaces: of deleted entities, and of deleted or restored spaces. "default" is the stage's own cluster.
SHARED_LISTS = frozenset({"default", "deleted", "purges", "unsettled"})
_FOLDERS = ("spaces", "temporary/spaces")


class ForeignSpaceError(Exception):
    """Error raised for a call that reads or writes items or files of another space."""


def guard_client(client: Any) -> None:
    """Refuses calls of a DynamoDB or S3 client for another space than the bound one."""
    service = client.meta.service_model.service_name
    check = {"dynamodb": _check_table, "s3": _check_bucket}[service]
    client.meta.events.register(f"before-parameter-build.{service}", check)
    if service == "s3":
        client.meta.events.register("before-sign.s3.PutObject", _check_form)


def is_of_space(partition: str, space_id: str) -> bool:
    """Returns whether a partition belongs to the space, or to no space."""
    kind, _, rest = partition.partition("#")
    return kind in SHARED_KINDS or rest.partition("#")[0] in (space_id, *SHARED_LISTS)


def _check_table(params: dict[str, Any], model: Any, **_: Any) -> None:
    space_id = bound_space.get()
    if space_id is None:
        return
    if model.name == "Scan":
        _refuse(model.name, "every space")
    for access in table_accesses(model.name, params):
        if not is_of_space(access.partition, space_id):
            _refuse(access.action, access.partition)


def _check_bucket(params: dict[str, Any], model: Any, **_: Any) -> None:
    space_id = bound_space.get()
    # The form of an upload names this operation. It is checked when it is signed.
    if space_id is not None and model.name != "CreateBucket":
        for key in _keys(params):
            _check_key(model.name, key, space_id)


def _check_form(request: Any, **_: Any) -> None:
    """Checks the form of an upload. It is signed without a call."""
    space_id, fields = bound_space.get(), request.context.get("s3-presign-post-fields")
    if space_id is not None and fields:
        _check_key("PutObject", fields["key"], space_id)


def _check_key(operation: str, key: str, space_id: str) -> None:
    if not key.startswith(tuple(f"{folder}/{space_id}/" for folder in _FOLDERS)):
        _refuse(operation, key)


def _keys(params: dict[str, Any]) -> Iterator[str]:
    if "Delete" in params:
        yield from (each["Key"] for each in params["Delete"]["Objects"])
    else:
        yield str(params.get("Key", params.get("Prefix", "")))
    if "CopySource" in params:
        # botocore has made it "<bucket>/<quoted key>?versionId=<version>".
        yield unquote(str(params["CopySource"]).partition("?")[0]).partition("/")[2]


def _refuse(operation: str, place: str) -> None:
    # One dimension for all functions, because one alarm watches them.
    count(METRIC, service="all")
    logger.error("a call for another space was refused", extra={"operation": operation, "place": place})
    raise ForeignSpaceError(f"{operation} would leave the space of this request")
