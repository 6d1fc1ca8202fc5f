"""Channel templates: messages of offers, with placeholders such as ``{{client.name}}``."""

from collections.abc import Mapping
from string import Template
from typing import Annotated, Any

from pydantic import AfterValidator, StringConstraints

TEMPLATE_CHARACTERS = 20_000
ACTION_FIELDS = ("name", "description", "channel", "type")
PLACEHOLDERS = (
    "{{client.<field>}}",
    *(f"{{{{action.{field}}}}}" for field in ACTION_FIELDS),
    "{{insight}}",
    "{{argument}}",
    "{{best_time}}",
)


class _Template(Template):
    """Template with ``{{…}}`` in place of ``$…``. It is filled in once: values are never read as placeholders."""

    flags = 0  # type: ignore[assignment]
    pattern = r"""
        \{\{ (?:
            \s* (?P<named> client\.[^{}\s](?:[^{}]{0,200}[^{}\s])?
                | action\.(?:name|description|channel|type) | insight | argument | best_time ) \s* \}\}
            | (?P<invalid>)
        )
        | (?P<escaped>(?!)) | (?P<braced>(?!))
    """  # type: ignore[assignment]


class _Values(dict[str, Any]):
    def __missing__(self, name: str) -> str:
        return ""


def check_channel_template(text: str) -> str:
    """Raises ValueError for an unknown placeholder."""
    for found in _Template.pattern.finditer(text):  # type: ignore[attr-defined]
        if found["invalid"] is not None:
            shown = text[found.start() : found.start() + 40].splitlines()[0]
            raise ValueError(f"has an unknown placeholder at '{shown}'; known are {', '.join(PLACEHOLDERS)}")
    return text


def render(template: str, values: Mapping[str, Any]) -> str:
    """Returns the template filled with values by name (``client.name``, ``argument``); a missing value is empty."""
    return _Template(template).substitute(_Values(values))


ChannelTemplate = Annotated[
    str, StringConstraints(max_length=TEMPLATE_CHARACTERS), AfterValidator(check_channel_template)
]
