"""XGBoost's models as trees of LightGBM: the same sums, without its library."""

import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared.propensity.errors import CheckpointError
from shared.propensity.forests import Leaf, Node, Tree, grown, to_text
from shared.propensity.log_odds import LogOddsModel

_FORMATS = {"i": "b", "U": "B", "I": "h", "l": "i", "L": "q", "d": "f", "D": "d"}
_CONSTANTS = {"Z": None, "T": True, "F": False}
_DEEPEST = 50
# More than a categorical column has.
_CODES = 256


def from_xgboost(model: Mapping[str, Any]) -> LogOddsModel:
    """Returns the model that XGBoost writes as JSON or UBJSON.

    It adds in single precision, so its sums differ from these by their rounding.
    """
    learner = model["learner"]
    width = int(learner["learner_model_param"]["num_feature"])
    base = float(str(learner["learner_model_param"]["base_score"]).strip("[]"))
    bias = math.log(base / (1 - base))
    trees: list[Tree] = []
    for tree in learner["gradient_booster"]["model"]["trees"]:
        found = grown(_XGBoostTree(tree).node(0))
        if isinstance(found, Tree):
            trees.append(found)
        else:
            bias += found
    return LogOddsModel(width, bias, forest=to_text(trees, width) if trees else "")


def read_ubjson(path: Path) -> LogOddsModel:
    """Returns the model of a ``.ubj`` file.

    Raises:
        CheckpointError: it isn't a model of XGBoost.
    """
    try:
        return from_xgboost(_UbjsonReader(path.read_bytes()).value())
    except (KeyError, TypeError, ValueError, IndexError, struct.error, RecursionError) as error:
        raise CheckpointError(f"{path.name} is not an XGBoost model") from error


class _XGBoostTree:
    def __init__(self, tree: Mapping[str, Any]) -> None:
        self._tree = tree
        starts, sizes = tree["categories_segments"], tree["categories_sizes"]
        self._sets = {
            node: tuple(sorted(tree["categories"][start : start + size]))
            for node, start, size in zip(tree["categories_nodes"], starts, sizes, strict=True)
        }

    def node(self, index: int) -> Node | Leaf:
        tree = self._tree
        left, right = tree["left_children"][index], tree["right_children"][index]
        value = np.float32(tree["split_conditions"][index])
        if left < 0:
            return Leaf(float(value), float(tree["sum_hessian"][index]))
        feature, default_left = int(tree["split_indices"][index]), bool(tree["default_left"][index])
        first, second = self.node(left), self.node(right)
        if not tree["split_type"][index]:
            # Smaller numbers go to the left, and there are none between this one and the next smaller one.
            below = float(np.nextafter(value, np.float32(-np.inf)))
            return Node(feature, below, default_left, first, second)
        chosen = self._sets[index]
        if default_left:
            # XGBoost sends the categories of a set to the right, LightGBM to the left, and the missing to the right.
            return Node(feature, chosen, False, second, first)
        return Node(feature, tuple(code for code in range(_CODES) if code not in chosen), False, first, second)


class _UbjsonReader:
    """A reader of the part of UBJSON that XGBoost writes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def value(self, depth: int = 0) -> Any:
        """Returns the next value."""
        return self._value(self._marker(), depth)

    def _value(self, marker: str, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError("too deep")
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        if marker in _FORMATS:
            return self._numbers(marker, 1)[0]
        if marker == "S":
            return self._text()
        if marker == "[":
            return self._array(depth)
        if marker == "{":
            return self._object(depth)
        raise ValueError(f"unknown marker {marker}")

    def _array(self, depth: int) -> Sequence[Any]:
        kind = self._marker() if self._next_is("$") else None
        if self._next_is("#"):
            count = self._count()
            if kind in _FORMATS:
                return self._numbers(kind, count)
            return [self._value(kind or self._marker(), depth + 1) for _ in range(count)]
        found = []
        while not self._next_is("]"):
            found.append(self.value(depth + 1))
        return found

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not self._next_is("}"):
            name = self._text()
            found[name] = self.value(depth + 1)
        return found

    def _numbers(self, marker: str, count: int) -> tuple[Any, ...]:
        form = f">{count}{_FORMATS[marker]}"
        start, self._place = self._place, self._place + struct.calcsize(form)
        return struct.unpack_from(form, self._data, start)

    def _count(self) -> int:
        count = int(self._numbers(self._marker(), 1)[0])
        if not 0 <= count <= len(self._data):
            raise ValueError("impossible length")
        return count

    def _text(self) -> str:
        size = self._count()
        start, self._place = self._place, self._place + size
        return self._data[start : self._place].decode()

    def _marker(self) -> str:
        self._place += 1
        return chr(self._data[self._place - 1])

    def _next_is(self, marker: str) -> bool:
        found = self._data[self._place] == ord(marker)
        self._place += found
        return found
