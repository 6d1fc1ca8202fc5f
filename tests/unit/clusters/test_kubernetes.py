from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.clusters.kubernetes import describe_node, quantity, total_resources


@pytest.mark.parametrize(
    ("text", "value"),
    [("3920m", 3.92), ("16Gi", 16 * 2**30), ("1k", 1000), ("2", 2), ("1e3", 1000), ("0.5", 0.5), ("500n", 5e-7)],
)
def test_a_quantity_of_kubernetes_becomes_a_number(text: str, value: float) -> None:
    assert quantity(text) == pytest.approx(value)


@given(st.one_of(st.none(), st.text(), st.integers(), st.dictionaries(st.text(), st.text())))
def test_any_value_becomes_a_number(value: Any) -> None:
    assert isinstance(quantity(value), float)


@pytest.mark.row("SE-5")
@pytest.mark.parametrize("text", ["9" * 2_000_000, "1e999E", "1" * 2_000_000 + "Ei", "1.1.1"])
def test_a_quantity_that_no_cluster_has_counts_as_none(text: str) -> None:
    assert quantity(text) == 0.0


@given(st.integers(0, 10**5), st.sampled_from(["", "Ki", "Mi", "Gi", "Ti", "k", "M", "G"]))
def test_a_suffix_multiplies_the_number(number: int, suffix: str) -> None:
    assert quantity(f"{number}{suffix}") == pytest.approx(number * quantity(f"1{suffix}"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from(["metadata", "status", "spec"]), JSON))
def test_a_node_of_any_shape_is_described(node: dict[str, Any]) -> None:
    described = describe_node(node)
    assert total_resources([described])["nodes"] == 1
