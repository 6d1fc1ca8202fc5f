"""No field of a request takes a truth value or a text for a number: ``false`` would become a threshold of 0."""

from collections.abc import Iterator
from typing import Annotated, Any, get_args

import pytest
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from functions.api import build_api


def models_within(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yields a model and the models of its fields, of their items and so on."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models_within(field.annotation)
    for argument in get_args(annotation):
        yield from models_within(argument)


def parts(annotation: Any) -> set[Any]:
    return {annotation}.union(*(parts(each) for each in get_args(annotation)))


def number_fields() -> list[Any]:
    models = {
        model
        for route in build_api().routes
        if isinstance(route, APIRoute) and route.body_field
        for model in models_within(route.body_field.field_info.annotation)
    }
    return [
        pytest.param(field, id=f"{model.__name__}.{name}")
        for model in sorted(models, key=lambda model: model.__name__)
        for name, field in model.model_fields.items()
        if parts(field.annotation) & {int, float} and not parts(field.annotation) & {bool, str}
    ]


@pytest.mark.parametrize("field", number_fields())
def test_a_number_is_neither_a_truth_value_nor_a_text(field: FieldInfo) -> None:
    whole: Any = Annotated[field.annotation, field]
    adapter = TypeAdapter[Any](whole)
    for value in (False, True, "1", "0.5"):
        for sent in (value, [value], {"key": value}):
            with pytest.raises(ValidationError):
                adapter.validate_python(sent)


@pytest.mark.parametrize("field", [each for each in number_fields() if int in parts(each.values[0].annotation)])
def test_a_whole_number_may_be_written_with_a_point(field: FieldInfo) -> None:
    whole: Any = Annotated[field.annotation, field]
    adapter = TypeAdapter[Any](whole)
    for value in (1, 30, 1_000):
        try:
            expected = adapter.validate_python(value)
        except ValidationError:
            continue
        sent = adapter.validate_python(float(value))
        assert (sent, type(sent)) == (expected, type(expected))
    with pytest.raises(ValidationError):
        adapter.validate_python(1.5)
