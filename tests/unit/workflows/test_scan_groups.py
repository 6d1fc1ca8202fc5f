"""Groups of files that one function of a scan reads."""

from hypothesis import given
from hypothesis import strategies as st

from functions.workflows.connector_scan.list_scan_files import GROUP_FILES, SMALL_BYTES, groups


@given(st.lists(st.none() | st.integers(0, 2 * SMALL_BYTES), max_size=200))
def test_each_file_is_in_one_group_and_only_small_files_share_one(sizes: list[int | None]) -> None:
    found = groups(range(len(sizes)), sizes)
    assert sorted(item for group in found for item in group) == list(range(len(sizes)))
    for group in found:
        assert len(group) <= GROUP_FILES
        assert len(group) == 1 or all((size := sizes[item]) is not None and size <= SMALL_BYTES for item in group)
