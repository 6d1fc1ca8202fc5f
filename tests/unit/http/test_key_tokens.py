"""The parser accepts the text of our API keys and refuses every other text."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.models.api_key import CHARACTERS, PREFIX, KeyToken

IDS = st.uuids().map(str)
TOKEN = KeyToken.new(*(str(UUID(int=number)) for number in (1, 2, 3)))


@given(IDS, IDS, IDS)
def test_a_key_contains_the_ids_of_its_space_and_user(space_id: str, user_id: str, key_id: str) -> None:
    token = KeyToken.new(space_id, user_id, key_id)
    assert KeyToken.parse(str(token)) == token
    assert len(str(token)) == CHARACTERS


@given(st.data())
def test_a_key_with_one_wrong_character_is_refused(data: st.DataObject) -> None:
    text = str(TOKEN)
    place = data.draw(st.integers(len(PREFIX), len(text) - 1))
    other = data.draw(st.sampled_from([each for each in "ABCxyz019-_ .é" if each != text[place]]))
    assert KeyToken.parse(text[:place] + other + text[place + 1 :]) is None


@given(st.text(max_size=200))
def test_any_other_text_is_refused(text: str) -> None:
    assert KeyToken.parse(text) is None
    assert KeyToken.parse(PREFIX + text) is None


def test_each_key_has_its_own_secret_and_its_representation_omits_it() -> None:
    other = KeyToken.new(TOKEN.space_id, TOKEN.user_id, TOKEN.key_id)
    assert other.hash != TOKEN.hash
    assert "secret" not in repr(TOKEN)


@pytest.mark.parametrize("text", [str(TOKEN)[:-1], f"{TOKEN}A", str(TOKEN).upper(), str(TOKEN).replace("ik_", "sk_")])
def test_a_shortened_or_changed_key_is_refused(text: str) -> None:
    assert KeyToken.parse(text) is None
