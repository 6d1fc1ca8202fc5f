import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.workflows.repeats import find_repeats
from shared.models.client_key import ClientKeyRule
from shared.models.job import JobFile
from shared.models.run import PartResult, RunPart, RunTask
from shared.runs.predictions import comparable


@pytest.mark.parametrize("kind", [pl.String, pl.Binary])
def test_all_rows_but_the_first_of_each_customer_are_repeats(kind: type[pl.DataType]) -> None:
    generator = np.random.default_rng(4)
    customers = [None if each == 0 else str(each) for each in generator.integers(400, size=1000)]
    frames = [
        pl.DataFrame({"customer": customers[start : start + 300], "record": range(300)[: 1000 - start]}).with_columns(
            pl.col("customer").cast(kind)
        )
        for start in range(0, 1000, 300)
    ]
    parts = [
        PartResult(number=number, rows_read=0, rows_written=frame.height, seconds=0)
        for number, frame in enumerate(frames)
    ]
    tasks = [
        RunTask(
            file=JobFile(bucket="b", key=f"file {number}", etag="e", size_bytes=1, name=f"file {number}"),
            parts=[RunPart(number=number, first=0)],
        )
        for number in range(4)
    ]

    found = find_repeats(parts, tasks, frames.__getitem__, shown=7)

    seen: dict[str, int] = {}
    expected, pairs = [], []
    for row, customer in enumerate(customers):
        expected.append(customer is None or customer not in seen)
        if not expected[-1] and customer is not None:
            pairs.append((row, seen[customer]))
        elif customer is not None:
            seen[customer] = row
    assert found.is_first.tolist() == expected
    assert found.rows == len(pairs) > 100
    assert [(each.file, each.row, each.first_file, each.first_row) for each in found.shown] == [
        (f"file {row // 300}", row % 300 + 1, f"file {first // 300}", first % 300 + 1) for row, first in pairs[:7]
    ]


SPELLINGS = st.text(st.sampled_from("aAbB019.-+_ @\u00e4\u212a\uff21\u00df\x00\t"), min_size=1, max_size=12)


@given(
    st.lists(SPELLINGS | st.sampled_from(["007.0", "4.00", "+4.0", "000", "--", "x" * 201, "0", "-0.0", "1.0.0"])),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_columns_of_keys_are_compared_by_the_rule_of_single_keys(
    keys: list[str], case: bool, zeros: bool, separators: bool
) -> None:
    rule = ClientKeyRule(ignore_case=case, ignore_leading_zeros=zeros, ignore_separators=separators)
    # Keys of the output have no blanks at their ends.
    stripped = [each for each in (key.strip() for key in keys) if each]
    found = comparable(pl.Series(stripped, dtype=pl.String), rule)
    assert found.to_list() == [rule.key_of(each) or each for each in stripped]
