"""Shortens the way of calls on items through a client of DynamoDB.

For each call, botocore walks a model of the service through all values, chooses the endpoint by rules and writes the
user agent twice. Items are JSON in both directions, and the rest is the same for all calls of a client. Signatures,
retries, errors and events stay botocore's. docs/decisions/0069-speed-of-chats-and-insights.md has the figures.
"""

import json
from copy import copy
from typing import Any

from shared.aws.connections import Connections

# No value in the requests and responses of these calls is binary or a time.
ITEM_CALLS = frozenset(
    {
        "BatchGetItem",
        "BatchWriteItem",
        "DeleteItem",
        "GetItem",
        "PutItem",
        "Query",
        "Scan",
        "TransactGetItems",
        "TransactWriteItems",
        "UpdateItem",
    }
)
_OUTPUTS = frozenset(f"{name}Output" for name in ITEM_CALLS)
_REQUEST_ID = "x-amzn-requestid"


def shorten_item_calls(client: Any) -> None:
    """Replaces what a client of DynamoDB does around a call on items. All other calls stay as they are."""
    client._serializer = _Serializer(client._serializer)
    client._resolve_endpoint_ruleset = _Endpoints(client)
    endpoint = client._endpoint
    endpoint._response_parser_factory = _Parsers(client._response_parser)
    settings, session = client.meta.config, endpoint.http_session
    endpoint.http_session = Connections(
        session,
        connect_seconds=settings.connect_timeout,
        read_seconds=settings.read_timeout,
        kept=settings.max_pool_connections,
        verify=session._verify,
    )


class _Serializer:
    def __init__(self, complete: Any) -> None:
        self._complete = complete

    def serialize_to_request(self, parameters: dict[str, Any], operation_model: Any) -> dict[str, Any]:
        name = operation_model.name
        if name not in ITEM_CALLS:
            request: dict[str, Any] = self._complete.serialize_to_request(parameters, operation_model)
            return request
        service = operation_model.metadata
        headers = {
            "X-Amz-Target": f"{service['targetPrefix']}.{name}",
            "Content-Type": f"application/x-amz-json-{service['jsonVersion']}",
        }
        body = json.dumps(parameters, separators=(",", ":")).encode()
        return {"url_path": "/", "query_string": "", "method": "POST", "headers": headers, "body": body}


class _Endpoints:
    """Returns what the rules said for the client's first call on items: no rule depends on the items."""

    def __init__(self, client: Any) -> None:
        self._resolve = client._resolve_endpoint_ruleset
        self._known: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    def __call__(self, operation_model: Any, params: Any, request_context: dict[str, Any], **more: Any) -> Any:
        if operation_model.name not in ITEM_CALLS or more:
            return self._resolve(operation_model, params, request_context, **more)
        if self._known is None:
            before = dict(request_context)
            found = self._resolve(operation_model, params, request_context)
            changed = {name: each for name, each in request_context.items() if before.get(name) is not each}
            self._known = found, changed
        found, changed = self._known
        request_context.update({name: copy(each) for name, each in changed.items()})
        return found


class _Parsers:
    """A factory of botocore's that returns one parser for all calls."""

    def __init__(self, complete: Any) -> None:
        self._parser = _Parser(complete)

    def create_parser(self, _: str) -> "_Parser":
        return self._parser


class _Parser:
    def __init__(self, complete: Any) -> None:
        self._complete = complete

    def parse(self, response: dict[str, Any], shape: Any) -> dict[str, Any]:
        parsed = self._items(response, shape)
        if parsed is None:
            parsed = self._complete.parse(response, shape)
        return parsed

    def _items(self, response: dict[str, Any], shape: Any) -> dict[str, Any] | None:
        """Returns the parsed response of a call on items, or ``None`` for any other response."""
        if response["status_code"] >= 300 or shape is None or shape.name not in _OUTPUTS:
            return None
        try:
            parsed = json.loads(response["body"])
        except ValueError:
            return None
        headers = {name.lower(): value for name, value in response["headers"].items()}
        metadata = {"HTTPStatusCode": response["status_code"], "HTTPHeaders": headers}
        if _REQUEST_ID in headers:
            metadata["RequestId"] = headers[_REQUEST_ID]
        return {**{name: value for name, value in parsed.items() if value is not None}, "ResponseMetadata": metadata}
