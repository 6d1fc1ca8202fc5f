"""Checks conditions when they are written, and tests a client against them, in the Common Expression Language (CEL).

Conditions read two variables: ``client``, a map of the client's fields, and ``now``, the time of the decision. A
condition that cannot be decided, because a field is missing or has another type, does not hold.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from shared.errors import Detail, ValidationFailedError

if TYPE_CHECKING:
    from cel_expr_python import cel

_MACROS = "all, exists, exists_one, filter, map"
# Regular expressions are left out, because one over a long text takes seconds; and so does adding texts in a loop.
_CONFIGS = (
    f"stdlib: {{exclude_macros: [{_MACROS}], exclude_functions: [{{name: matches}}]}}",
    "stdlib: {exclude_functions: [{name: matches}, {name: _+_}]}",
    "stdlib: {exclude_functions: [{name: matches}]}",
)
# A condition with a loop repeats its work, by CEL's own limit at most 10,000 times. So what it repeats is small: the
# limits are for each begun hundred characters of the condition.
LOOP_VALUES = 1000
LOOP_CHARACTERS = 10_000
_LOOP_LENGTH = 100
# Compiled conditions that are kept between requests.
_KEPT = 4096
_WHOLE_NUMBERS = range(-(2**63), 2**63)
_VALUE_CHARACTERS = 100
_PLACE = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): ([^\n]*)")
_FIELD = re.compile(r"""(?<![\w.])client(?:\.[A-Za-z_]\w*\b(?!\s*\()|\[\s*(?:"[^"\\]*"|'[^'\\]*')\s*\])+""")
_STEP = re.compile(r"""\.(\w+)|["']([^"']*)["']""")


@dataclass(frozen=True)
class Compiled:
    """A checked condition. ``has_loop`` is whether it repeats something for each entry of a list or map."""

    expression: "cel.Expression"
    has_loop: bool


@dataclass(frozen=True)
class Failed:
    """A condition that does not hold, and why. The client's values are looked up when somebody asks for the reason."""

    condition: str
    problem: str
    fields: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def reason(self) -> str:
        return self.problem if self.fields is None else f"{self.problem}: {_values(self.fields, self.condition)}"


@lru_cache(maxsize=1)
def _environments() -> "list[cel.Env]":
    """Returns the languages of conditions: without loops, with loops that cannot add, and all of both."""
    from cel_expr_python import cel

    variables = {"client": cel.Type.Map(cel.Type.STRING, cel.Type.DYN), "now": cel.Type.TIMESTAMP}
    return [cel.NewEnv(config=cel.NewEnvConfigFromYaml(each), variables=variables) for each in _CONFIGS]


def check_conditions(conditions: Sequence[str], field_path: str) -> None:
    """Raises ValidationFailedError with the position of each mistake: unknown names and functions, and wrong types."""
    details = []
    for index, condition in enumerate(conditions):
        try:
            _compiled(condition)
        except ValueError as error:
            details.append(Detail(f"{field_path}[{index}]", str(error)))
    if details:
        raise ValidationFailedError("; ".join(f"{each.field}: {each.message}" for each in details), details)


@lru_cache(maxsize=_KEPT)
def _compiled(condition: str) -> Compiled:
    """Returns a compiled condition. Raises ValueError with the position of the first mistake."""
    # Actions without conditions need no library.
    from cel_expr_python import cel

    plain, looping, whole = _environments()
    try:
        compiled = Compiled(plain.compile(condition), has_loop=False)
    except RuntimeError:
        compiled = Compiled(_with_loop(condition, looping, whole), has_loop=True)
    result = compiled.expression.return_type()
    if result not in (cel.Type.BOOL, cel.Type.DYN):
        raise ValueError(f"line 1, column 1: it gives {result.name()}, but a condition must be true or false")
    return compiled


def _with_loop(condition: str, looping: "cel.Env", whole: "cel.Env") -> "cel.Expression":
    try:
        whole.compile(condition)
    except RuntimeError as error:
        raise ValueError(_mistake(str(error))) from None
    try:
        return looping.compile(condition)
    except RuntimeError:
        raise ValueError("line 1, column 1: a condition with a loop, such as all or exists, cannot add") from None


def _mistake(message: str) -> str:
    found = _PLACE.search(message)
    if found is None or int(found[1]) < 1:
        return "line 1, column 1: it is nested too deep; split it into several conditions"
    text = found[3].replace(" (in container '')", "").removesuffix(" [INVALID_ARGUMENT]")
    if "reference to 'matches'" in text:
        text += "; use startsWith, endsWith, contains or `in` instead of regular expressions"
    elif "undeclared reference" in text:
        text += "; there are `client`, `now` and CEL's own functions"
    return f"line {found[1]}, column {found[2]}: {text}"


class ClientConditions:
    """Tests one client against conditions, each of them once."""

    def __init__(self, fields: Mapping[str, Any], now: datetime) -> None:
        self._given = fields
        self._now = now
        self._activation: cel.Activation | None = None
        self._tested: dict[str, Failed | None] = {}

    @cached_property
    def _fields(self) -> dict[str, Any]:
        return {name: _readable(value) for name, value in self._given.items()}

    def failed(self, conditions: Sequence[str]) -> Failed | None:
        """Returns the first condition that does not hold."""
        for condition in conditions:
            if condition not in self._tested:
                self._tested[condition] = self._test(condition)
            failed = self._tested[condition]
            if failed is not None:
                return failed
        return None

    def _test(self, condition: str) -> Failed | None:
        try:
            compiled = _compiled(condition)
        except ValueError as error:
            return Failed(condition, f"cannot be read: {error}")
        if compiled.has_loop and (excess := self._excess(condition)):
            return Failed(condition, excess)
        if self._activation is None:
            self._activation = _environments()[0].Activation({"client": self._fields, "now": self._now})
        try:
            result = compiled.expression.eval(self._activation).value()
        except RuntimeError:
            return Failed(condition, "takes too many steps for this client")
        if result is True:
            return None
        return Failed(condition, "does not hold" if result is False else "cannot be decided", self._fields)

    def _excess(self, condition: str) -> str | None:
        """Returns why the client is too large for a condition with a loop."""
        hundreds = -(-len(condition) // _LOOP_LENGTH)
        characters, values = LOOP_CHARACTERS // hundreds, LOOP_VALUES // hundreds
        if self._size[0] <= characters and self._size[1] <= values:
            return None
        limits = f"{values:,} values or {characters:,} characters"
        return f"has a loop of {len(condition):,} characters, and the client has more than {limits}"

    @cached_property
    def _size(self) -> tuple[int, int]:
        """Returns the number of characters and of values of the client."""
        text = json.dumps(self._fields, ensure_ascii=False, default=str)
        # Each value but the last of a list or object has a comma after it.
        return len(text), text.count(",") + 1


def _values(fields: Mapping[str, Any], condition: str) -> str:
    """Returns the client's values of the fields that a condition names."""
    shown = [f"{name} is {_shown(fields, name)}" for name in dict.fromkeys(_FIELD.findall(condition))]
    return ", ".join(shown) or "it names no field of the client"


def _readable(value: Any) -> Any:
    """Returns a value that CEL can read: whole numbers beyond 64 bits as others, and other objects as text."""
    if isinstance(value, dict):
        return {str(name): _readable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_readable(each) for each in value]
    if isinstance(value, int) and not isinstance(value, bool) and value not in _WHOLE_NUMBERS:
        return float(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _shown(fields: Mapping[str, Any], field: str) -> str:
    value: Any = fields
    for name, quoted in _STEP.findall(field.removeprefix("client")):
        if not isinstance(value, dict) or (name or quoted) not in value:
            return "missing"
        value = value[name or quoted]
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _VALUE_CHARACTERS else f"{text[:_VALUE_CHARACTERS]}…"
