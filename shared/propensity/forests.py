"""Decision trees of any library as one LightGBM model in text, which loads without code and explains itself exactly."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from shared.propensity.dates import Numbers
from shared.propensity.errors import CheckpointError

Integers = npt.NDArray[np.int64]

# Bits of LightGBM's decision type.
CATEGORICAL = 1
DEFAULT_LEFT = 2
MISSING_IS_NAN = 8
_WORD = 32
_MAX_COUNT = 2**31 - 1


@dataclass(frozen=True)
class Tree:
    """A tree as LightGBM stores it. A negative child is a leaf: ``-1 - leaf``."""

    features: Integers
    thresholds: Numbers
    decisions: Integers
    left: Integers
    right: Integers
    leaf_values: Numbers
    leaf_counts: Integers
    node_counts: Integers
    # The categories of each categorical node go to the left; its threshold is its place here.
    categories: tuple[tuple[int, ...], ...] = ()

    def scaled(self, weight: float) -> "Tree":
        """Returns the tree with leaves of ``weight`` times the value."""
        return replace(self, leaf_values=self.leaf_values * weight)


@dataclass(frozen=True)
class Node:
    """An inner node for ``grown``: the rule that leads to the left, and both children."""

    feature: int
    threshold: float | tuple[int, ...]
    default_left: bool
    left: "Node | Leaf"
    right: "Node | Leaf"


@dataclass(frozen=True)
class Leaf:
    """A leaf, and how many rows of the training (or their weight) reached it."""

    value: float
    count: float


def grown(root: Node | Leaf) -> Tree | float:
    """Returns the tree, or its value where it has a single leaf.

    Counts only weigh the paths of an explanation. Each leaf counts at least once, because a leaf of no row would divide
    by zero there.
    """
    if isinstance(root, Leaf):
        return root.value
    features: list[int] = []
    thresholds: list[float] = []
    decisions: list[int] = []
    children: list[list[int]] = [[], []]
    node_counts: list[int] = []
    leaves: list[Leaf] = []
    categories: list[tuple[int, ...]] = []
    scale = _count_scale(root)

    def add(node: Node | Leaf) -> tuple[int, int]:
        if isinstance(node, Leaf):
            leaves.append(node)
            return -len(leaves), max(round(node.count * scale), 1)
        place = len(features)
        features.append(node.feature)
        is_set = isinstance(node.threshold, tuple)
        decisions.append(MISSING_IS_NAN | (CATEGORICAL if is_set else DEFAULT_LEFT if node.default_left else 0))
        thresholds.append(float(len(categories)) if isinstance(node.threshold, tuple) else node.threshold)
        if isinstance(node.threshold, tuple):
            categories.append(node.threshold)
        for side in children:
            side.append(0)
        node_counts.append(0)
        (children[0][place], left), (children[1][place], right) = add(node.left), add(node.right)
        node_counts[place] = left + right
        return place, left + right

    add(root)
    return Tree(
        features=np.array(features),
        thresholds=np.array(thresholds),
        decisions=np.array(decisions),
        left=np.array(children[0]),
        right=np.array(children[1]),
        leaf_values=np.array([leaf.value for leaf in leaves]),
        leaf_counts=np.array([max(round(leaf.count * scale), 1) for leaf in leaves]),
        node_counts=np.array(node_counts),
        categories=tuple(categories),
    )


def _count_scale(root: Node | Leaf) -> float:
    """Returns a factor that keeps weights below one apart, and the sum of all within LightGBM's integers."""

    def total(node: Node | Leaf) -> float:
        return node.count if isinstance(node, Leaf) else total(node.left) + total(node.right)

    return min(1000.0, _MAX_COUNT / 4 / max(total(root), 1.0))


def to_text(trees: Sequence[Tree], width: int) -> str:
    """Returns trees on ``width`` columns as a model of LightGBM."""
    blocks = [_block(index, tree) for index, tree in enumerate(trees)]
    header = (
        "tree",
        "version=v4",
        "num_class=1",
        "num_tree_per_iteration=1",
        "label_index=0",
        f"max_feature_idx={width - 1}",
        "objective=binary sigmoid:1",
        "feature_names=" + " ".join(f"Column_{index}" for index in range(width)),
        "feature_infos=" + " ".join(["none"] * width),
        "tree_sizes=" + " ".join(str(len(block)) for block in blocks),
        "",
        "",
    )
    return "\n".join(header) + "".join(blocks) + "end of trees\n\nfeature_importances:\n\npandas_categorical:null\n"


def from_text(text: str) -> tuple[list[Tree], float]:
    """Returns the trees of LightGBM's text, and the sum of those with a single leaf.

    Raises:
        CheckpointError: it isn't a model of LightGBM.
    """
    trees, bias = [], 0.0
    body = text.partition("\nend of trees")[0]
    try:
        for block in body.split("\nTree=")[1:]:
            fields = dict(line.split("=", 1) for line in block.splitlines()[1:] if "=" in line)
            if int(fields["num_leaves"]) == 1:
                bias += float(fields["leaf_value"])
            else:
                trees.append(_parsed(fields))
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"the text is not a LightGBM model ({error})") from error
    if not body.startswith("tree\n"):
        raise CheckpointError("the text is not a LightGBM model")
    return trees, bias


def _block(index: int, tree: Tree) -> str:
    bounds, words = [0], []
    for codes in tree.categories:
        bits = np.zeros(max(codes, default=0) // _WORD + 1, dtype=np.uint32)
        for code in codes:
            bits[code // _WORD] |= np.uint32(1 << code % _WORD)
        words.extend(bits.tolist())
        bounds.append(len(words))
    lines = [
        f"Tree={index}",
        f"num_leaves={len(tree.leaf_values)}",
        f"num_cat={len(tree.categories)}",
        _line("split_feature", tree.features),
        _line("threshold", tree.thresholds),
        _line("decision_type", tree.decisions),
        _line("left_child", tree.left),
        _line("right_child", tree.right),
        _line("leaf_value", tree.leaf_values),
        _line("leaf_count", tree.leaf_counts),
        _line("internal_count", tree.node_counts),
    ]
    if tree.categories:
        lines += [_line("cat_boundaries", bounds), _line("cat_threshold", words)]
    return "\n".join([*lines, "is_linear=0", "shrinkage=1", "", "", ""])


def _line(name: str, values: Iterable[float] | Integers | Numbers) -> str:
    numbers = values.tolist() if isinstance(values, np.ndarray) else values
    return f"{name}=" + " ".join(map(repr, numbers))


def _parsed(fields: dict[str, str]) -> Tree:
    def integers(name: str) -> Integers:
        return np.array(fields[name].split(), dtype=np.int64)

    def numbers(name: str) -> Numbers:
        return np.array(fields[name].split(), dtype=np.float64)

    categories: list[tuple[int, ...]] = []
    if int(fields["num_cat"]):
        words, bounds = integers("cat_threshold").tolist(), integers("cat_boundaries").tolist()
        for start, end in pairwise(bounds):
            bits = sum(word << _WORD * place for place, word in enumerate(words[start:end]))
            categories.append(tuple(code for code in range(_WORD * (end - start)) if bits >> code & 1))
    return Tree(
        features=integers("split_feature"),
        thresholds=numbers("threshold"),
        decisions=integers("decision_type"),
        left=integers("left_child"),
        right=integers("right_child"),
        leaf_values=numbers("leaf_value"),
        leaf_counts=integers("leaf_count"),
        node_counts=integers("internal_count"),
        categories=tuple(categories),
    )
