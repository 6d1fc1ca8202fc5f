"""Checks JSON schemas that clients send, and JSON that has to fit a schema."""

import json
from collections.abc import Iterator
from typing import Any

from shared.bounds import TOOL_SCHEMA
from shared.errors import ValidationFailedError
from shared.network.foreign_json import ForeignJsonError, parse

# A check of a value against every part of a schema takes about 20 ns, and nothing else runs during that time.
CHECKS_LIMIT = 10_000_000
# The beginnings of objects that are tried in a text around an object.
OBJECTS_LIMIT = 50
# The parts of a schema without references.
PARTS_LIMIT = 20_000
_DEFINITIONS = ("$defs", "definitions")
_END_OF_THOUGHT = "</think>"
_DIALECTS = tuple(
    f"{scheme}://json-schema.org/{name}"
    for scheme in ("http", "https")
    for name in (
        "draft-04/schema",
        "draft-06/schema",
        "draft-07/schema",
        "draft/2019-09/schema",
        "draft/2020-12/schema",
    )
)
# With references, a short schema can take endless time.
_REFERENCES = ('"$ref"', '"$dynamicRef"', '"$recursiveRef"')


def check_parameters(parameters: dict[str, Any], field: str) -> None:
    """Raises ValidationFailedError for ``field`` unless ``parameters`` is a JSON schema of an object."""
    import jsonschema_rs

    text = _text(parameters, field)
    if len(text) > TOOL_SCHEMA.characters:
        raise ValidationFailedError.of(
            field, f"has more than {TOOL_SCHEMA.characters:,} characters as JSON; shorten it"
        )
    if _levels(parameters) > TOOL_SCHEMA.depth:
        raise ValidationFailedError.of(field, f"is nested more than {TOOL_SCHEMA.depth} levels deep; flatten it")
    dialect = parameters.get("$schema")
    if dialect is not None and (not isinstance(dialect, str) or dialect.rstrip("#") not in _DIALECTS):
        raise ValidationFailedError.of(field, "has an unknown $schema; leave it out, or name a draft of JSON Schema")
    try:
        # Offline, because otherwise the validator fetches every address that the schema refers to.
        jsonschema_rs.validator_for(parameters, offline=True)
        jsonschema_rs.meta.validate(parameters)
    except jsonschema_rs.ValidationError as error:
        where = "/".join(str(part) for part in error.instance_path)
        raise ValidationFailedError.of(
            field, f"is not a valid JSON schema{f' at {where}' if where else ''}: {error.message[:300]}"
        ) from None
    except (jsonschema_rs.ReferencingError, ValueError) as error:
        raise ValidationFailedError.of(
            field, f"is not a JSON schema that can be checked without other documents: {str(error)[:300]}"
        ) from None
    if parameters.get("type", "object") != "object":
        raise ValidationFailedError.of(field, 'must describe an object: {"type": "object", ...}')


def check_emulated(parameters: dict[str, Any], field: str) -> None:
    """Raises ValidationFailedError for a schema against which a completion cannot be checked in little time."""
    import jsonschema_rs

    text = json.dumps(parameters)
    if any(reference in text for reference in _REFERENCES):
        raise ValidationFailedError.of(
            field,
            "must not have a $ref, because the cluster's tool calls are emulated: write the schema in its place",
        )
    try:
        jsonschema_rs.validator_for(parameters, offline=True, pattern_options=jsonschema_rs.RegexOptions())
    except jsonschema_rs.ValidationError:
        raise ValidationFailedError.of(
            field,
            "must not have look-around or back-references in a pattern, because the cluster's tool calls are emulated",
        ) from None


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Returns a schema with its own definitions in the place of references to them.

    A schema that refers to itself, or that would become too large, stays as it is.
    """
    try:
        return _Inliner(schema).schema()
    except (_NotInlinableError, RecursionError):
        return schema


class _NotInlinableError(Exception):
    """Error raised for references that cannot be replaced."""


class _Inliner:
    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._definitions = {
            f"#/{place}/{name}": definition
            for place in _DEFINITIONS
            if isinstance(schema.get(place), dict)
            for name, definition in schema[place].items()
        }
        self._parts = 0

    def schema(self) -> dict[str, Any]:
        if not self._definitions:
            return self._schema
        rest = {name: each for name, each in self._schema.items() if name not in _DEFINITIONS}
        found: dict[str, Any] = self._replaced(rest, ())
        return found

    def _replaced(self, value: Any, within: tuple[str, ...]) -> Any:
        self._parts += 1
        if self._parts > PARTS_LIMIT:
            raise _NotInlinableError
        if isinstance(value, list):
            return [self._replaced(each, within) for each in value]
        if not isinstance(value, dict):
            return value
        reference = value.get("$ref")
        if not isinstance(reference, str):
            return {name: self._replaced(each, within) for name, each in value.items()}
        if reference in within or reference not in self._definitions:
            raise _NotInlinableError
        beside = {name: each for name, each in value.items() if name != "$ref"}
        definition = self._definitions[reference]
        if not isinstance(definition, dict):
            raise _NotInlinableError
        return self._replaced({**definition, **beside}, (*within, reference))


def fitting_object(text: str, schema: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the JSON object in the text, or ``None`` if it does not fit the schema or would take long to check.

    Some models think aloud before the object, or put it between fences. Of several objects that differ, none is taken:
    one may be a quotation. ``schema`` is ours, or one that ``check_emulated`` accepts.
    """
    if (text.count(",") + 1) * (json.dumps(schema).count(",") + 1) > CHECKS_LIMIT:
        return None
    try:
        found = parse(text)
    except ForeignJsonError:
        fitting: list[Any] = []
        for each in _objects_in(text.rpartition(_END_OF_THOUGHT)[2]):
            if each not in fitting and _is_valid(schema, each):
                fitting.append(each)
        found = fitting[0] if len(fitting) == 1 else None
    return found if isinstance(found, dict) and _is_valid(schema, found) else None


def _objects_in(text: str) -> Iterator[dict[str, Any]]:
    """Yields the JSON objects between other text. Objects inside of them are not yielded."""
    decoder = json.JSONDecoder()
    start = text.find("{")
    for _ in range(OBJECTS_LIMIT):
        if start < 0:
            return
        try:
            _, end = decoder.raw_decode(text, start)
            yield parse(text[start:end])
        except (ForeignJsonError, ValueError, RecursionError):
            end = start + 1
        start = text.find("{", end)


def _is_valid(schema: dict[str, Any], value: Any) -> bool:
    import jsonschema_rs

    # These patterns take time in proportion to the text.
    return bool(jsonschema_rs.is_valid(schema, value, offline=True, pattern_options=jsonschema_rs.RegexOptions()))


def _text(parameters: dict[str, Any], field: str) -> str:
    try:
        return json.dumps(parameters)
    except RecursionError:
        raise ValidationFailedError.of(field, "is nested too deeply; flatten it") from None


def _levels(value: Any) -> int:
    """Returns the depth of a value, at most one more than allowed."""
    levels, layer = 0, [value]
    while layer and levels <= TOOL_SCHEMA.depth:
        nested = [each for each in layer if isinstance(each, dict | list)]
        layer = [item for each in nested for item in (each.values() if isinstance(each, dict) else each)]
        levels += bool(nested)
    return levels
