"""Checks what a request names before anything reads it: no unknown field or parameter, no secret in free content.

An unknown name would be a setting or a filter that the client believes in, so it is refused. Objects that take any key
are documented as such; OpenAI's shapes are among them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from fastapi import Request, params
from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

from shared.errors import Detail, ValidationFailedError
from shared.http.unknown_names import DETAILS_LIMIT, nearest
from shared.secret_names import find_secret


@dataclass(frozen=True)
class Shape:
    """What a field takes: an object of ``model``, a list of ``items``, a map of ``values``, or free content."""

    model: type[BaseModel] | None = None
    items: "Shape | None" = None
    values: "Shape | None" = None
    is_free: bool = False


FREE, PLAIN = Shape(is_free=True), Shape()


async def check_nested_fields(request: Request, field: FieldInfo) -> None:
    """Raises ValidationFailedError. FastAPI itself refuses a body that is not JSON."""
    if isinstance(field, params.Form):
        return
    try:
        body = await request.json()
    except (ValueError, RecursionError):
        return
    found = list(problems(shape_of(field.annotation), body, "body"))
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise ValidationFailedError(f"{found[0].field}: {found[0].message}{more}", found[:DETAILS_LIMIT])


def problems(shape: Shape, value: Any, path: str) -> Iterator[Detail]:
    """Yields what is wrong with the nested objects of a body."""
    if shape.is_free:
        if secret := find_secret(value, path):
            yield Detail(secret, "has the name of a secret: leave secrets out, this content is stored and returned")
    elif isinstance(value, list) and shape.items:
        for index, item in enumerate(value):
            yield from problems(shape.items, item, f"{path}.{index}")
    elif isinstance(value, dict) and shape.model:
        yield from _problems_of_object(shape.model, value, path)
    elif isinstance(value, dict) and shape.values:
        for key, item in value.items():
            yield from problems(shape.values, item, f"{path}.{key}")


def _problems_of_object(model: type[BaseModel], value: dict[str, Any], path: str) -> Iterator[Detail]:
    known, is_open = fields_of(model), model.model_config.get("extra") == "allow"
    for key, item in value.items():
        place = f"{path}.{key}"
        if key in known:
            yield from problems(known[key], item, place)
        elif is_open:
            yield from problems(FREE, {key: item}, path)
        else:
            yield Detail(place, f"is not known: {nearest(key, known, 'fields')}")


@cache
def fields_of(model: type[BaseModel]) -> Mapping[str, Shape]:
    """Returns the shapes of a model's fields by the names that a client may use."""
    shapes: dict[str, Shape] = {}
    for name, field in model.model_fields.items():
        alias = field.validation_alias or field.alias or name
        names = alias.choices if isinstance(alias, AliasChoices) else [alias]
        shapes |= {str(each): shape_of(field.annotation) for each in names}
    return shapes


def shape_of(annotation: Any) -> Shape:
    """Returns the shape of a type."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return Shape(model=annotation)
    if annotation is Any or annotation is dict:
        return FREE
    if origin is Annotated:
        return shape_of(arguments[0])
    if origin in (Union, UnionType):
        return _any_of([shape_of(each) for each in arguments])
    if origin in (list, tuple, set):
        inner = shape_of(arguments[0])
        return PLAIN if inner is PLAIN else Shape(items=inner)
    if origin is dict:
        inner = shape_of(arguments[1])
        return inner if inner is PLAIN or inner.is_free else Shape(values=inner)
    return PLAIN


def _any_of(shapes: list[Shape]) -> Shape:
    return Shape(
        model=next((each.model for each in shapes if each.model), None),
        items=next((each.items for each in shapes if each.items), None),
        values=next((each.values for each in shapes if each.values), None),
        is_free=any(each.is_free for each in shapes),
    )
