"""Tests of the comparable form of the names of columns."""

import pytest

from shared.files.column_names import snake_case


@pytest.mark.row("SE-6")
@pytest.mark.parametrize(
    "name",
    ["customerId", "Customer ID", " customer-id ", "\uff43ustomer\uff29d", "cust\u200bomer.id", "\ufeffCustomer_ID"],
)
def test_columns_are_named_alike_in_any_letters(name: str) -> None:
    assert snake_case(name) == "customer_id"
