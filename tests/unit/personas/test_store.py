"""Tests of the keys that identify a person, and of the ids of uploaded rows."""

import unicodedata
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from functions.personas.upload_store import row_id
from shared.dynamodb.repository import is_identifier
from shared.models.persona_upload import StoredUpload, UploadStatus
from shared.personas.store import person_key

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(NAMES)
def test_the_key_of_a_person_ignores_unicode_composition_case_and_blanks(name: str) -> None:
    key = person_key(name, "1990-01-31")
    assert person_key(unicodedata.normalize("NFC", name), "1990-01-31") == key
    assert person_key(unicodedata.normalize("NFD", name), "1990-01-31") == key
    assert person_key(name.casefold(), "1990-01-31") == key
    assert person_key(f" \t{name.replace(' ', '   ')}\u00a0", "1990-01-31") == key


@given(NAMES, st.dates(), st.dates())
def test_the_key_of_a_person_depends_on_the_birthdate(name: str, first: object, second: object) -> None:
    assert (person_key(name, str(first)) == person_key(name, str(second))) == (first == second)


def upload(rows_key: str) -> StoredUpload:
    return StoredUpload(
        status=UploadStatus.IN_PROGRESS, created_by="u", valid_until=NOW, confirmed_at=NOW, rows_key=rows_key
    )


@given(st.lists(st.integers(0, 99_999), unique=True, min_size=2))
def test_the_ids_of_rows_sort_like_the_rows(numbers: list[int]) -> None:
    ids = {number: row_id(upload("a"), number) for number in numbers}
    assert sorted(numbers, key=ids.__getitem__) == sorted(numbers)
    assert all(is_identifier(each) for each in ids.values())
    assert ids == {number: row_id(upload("a"), number) for number in numbers}
    assert not set(ids.values()) & {row_id(upload("b"), number) for number in numbers}
