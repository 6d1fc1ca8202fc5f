"""The text of API keys: what we made is read back, and nothing else is taken for it."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.models.api_key import CHARACTERS, PREFIX, KeyToken

IDS = st.uuids().map(str)
TOKEN = KeyToken.new(*(str(UUID(int=number)) for number in (1, 2, 3)))


@given(IDS, IDS, IDS)
def test_a_key_says_whose_it_is(space_id: str, user_id: str, key_id: str) -> None:
    token = KeyToken.new(space_id, user_id, key_id)
    assert KeyToken.parse(str(token)) == token
    assert len(str(token)) == CHARACTERS


@given(st.data())
def test_one_wrong_character_is_noticed(data: st.DataObject) -> None:
    text = str(TOKEN)
    place = data.draw(st.integers(len(PREFIX), len(text) - 1))
    other = data.draw(st.sampled_from([each for each in "ABCxyz019-_ .é" if each != text[place]]))
    assert KeyToken.parse(text[:place] + other + text[place + 1 :]) is None


@given(st.text(max_size=200))
def test_no_other_text_is_a_key(text: str) -> None:
    assert KeyToken.parse(text) is None
    assert KeyToken.parse(PREFIX + text) is None


def test_every_key_has_a_secret_of_its_own_that_its_representation_leaves_out() -> None:
    other = KeyToken.new(TOKEN.space_id, TOKEN.user_id, TOKEN.key_id)
    assert other.hash != TOKEN.hash
    assert "secret" not in repr(TOKEN)


@pytest.mark.parametrize("text", [str(TOKEN)[:-1], f"{TOKEN}A", str(TOKEN).upper(), str(TOKEN).replace("ik_", "sk_")])
def test_a_key_that_was_cut_or_changed_is_invalid(text: str) -> None:
    assert KeyToken.parse(text) is None
