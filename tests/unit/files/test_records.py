"""Lines of delimited text: splitting and joining fields, records over several lines, and the lines of rows."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.files.records import Flaw, Lines, Marks, join, split
from shared.files.structure import LineMap, copy_lines

FIELDS = st.lists(st.text(st.sampled_from("ab,;\"' \n"), max_size=6), min_size=2, max_size=5)
LIMIT = 1 << 20


@given(fields=FIELDS, delimiter=st.sampled_from(",;"))
def test_fields_that_the_csv_module_writes_are_split_and_joined_alike(fields: list[str], delimiter: str) -> None:
    target = io.StringIO()
    csv.writer(target, delimiter=delimiter, lineterminator="\n").writerow(fields)
    line = target.getvalue()[:-1]
    assert split(line, Marks(delimiter)).fields == fields
    assert next(csv.reader([join(fields, delimiter)], delimiter=delimiter)) == fields or "\n" in "".join(fields)


@given(rows=st.lists(FIELDS.filter(lambda fields: any(fields)), min_size=1, max_size=6))
def test_records_over_several_lines_are_found_with_the_line_on_which_they_begin(rows: list[list[str]]) -> None:
    target = io.StringIO()
    csv.writer(target, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    records = list(Lines(io.BytesIO(target.getvalue().encode())).records(Marks(","), LIMIT))
    assert [found.fields for _, found in records] == rows
    starts = [1]
    for row in rows:
        starts.append(starts[-1] + 1 + sum(field.count("\n") for field in row))
    assert [number for number, _ in records] == starts[:-1]


@pytest.mark.parametrize(
    ("line", "marks", "fields"),
    [
        ('1,5" pipe,3', Marks(","), ["1", '5" pipe', "3"]),
        ("1, 2 , 'x, y'", Marks(",", "'", skips_spaces=True), ["1", "2", "x, y"]),
        (r'1,"say \"hi\", then",3', Marks(",", escape="\\"), ["1", 'say "hi", then', "3"]),
        ("a\t\t'b'", Marks("\t", None), ["a", "", "'b'"]),
    ],
)
def test_marks_decide_how_a_line_is_split(line: str, marks: Marks, fields: list[str]) -> None:
    assert split(line, marks).fields == fields


def test_a_quote_that_no_delimiter_follows_is_text_only_if_asked() -> None:
    line = '"She said "hi" to me",1'
    assert split(line, Marks(",")).flaw is Flaw.TEXT_AFTER_QUOTE
    assert split(line, Marks(","), is_lenient=True).fields == ['She said "hi" to me', "1"]


@pytest.mark.parametrize(("last", "flaw"), [(b'3,"y"', Flaw.TEXT_AFTER_QUOTE), (b"3,y", Flaw.OPEN_QUOTE)])
def test_an_open_quote_gives_the_lines_below_back(last: bytes, flaw: Flaw) -> None:
    lines = Lines(io.BytesIO(b'1,"never closed\n2,x\n' + last))
    first = lines.next()
    assert first is not None
    found, text = lines.record(first, Marks(","), LIMIT)
    assert (found.flaw, text, lines.number) == (flaw, first, 1)
    assert [lines.next(), lines.next(), lines.next()] == ["2,x", last.decode(), None]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 4)), max_size=50), st.integers(1, 9))
def test_the_line_of_each_row_is_known_behind_records_of_several_lines_and_gaps(
    steps: list[tuple[bool, int]], first: int
) -> None:
    expected: list[int] = []
    lines, line = LineMap(), first
    lines.start(0, first)
    for is_row, length in steps:
        if is_row:
            lines.start(len(expected), line)
            expected.append(line)
        line += length
        lines.start(len(expected), line)
    assert [lines.line_of(row) for row in range(len(expected))] == expected


@given(lines=st.lists(st.binary(max_size=5).map(lambda line: line.replace(b"\n", b"x")), max_size=30), data=st.data())
def test_lines_are_copied_up_to_a_number_and_reading_goes_on_behind_them(
    lines: list[bytes], data: st.DataObject
) -> None:
    content = b"".join(line + b"\n" for line in lines)
    count = data.draw(st.integers(0, len(lines)))
    source, target = io.BytesIO(content), io.BytesIO()
    copy_lines(source, target, count)
    assert target.getvalue() == b"".join(line + b"\n" for line in lines[:count])
    assert source.read() == b"".join(line + b"\n" for line in lines[count:])
