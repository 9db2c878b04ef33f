"""Names are fit for assets, partitions and object keys, and tell texts apart."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.prompts.names import (
    MAX_NAME_CHARACTERS,
    checked_prompt_name,
    checked_set_name,
    join_name,
    name_part,
    slug,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("calm", "calm"),
        ("AB-1234", "ab-1234"),
        ("  two  words ", "two-words"),
        ("16:9", "16-9"),
        ("Crème Brûlée 2", "creme-brulee-2"),
        ("a/b\\c..d", "a-b-c-d"),
        ("---", "x-"),
        ("", "x-"),
        ("红", "x-"),
        ("红-1", "1-"),
        ("Straße", "stra-e-"),
    ],
)
def test_slug(text: str, expected: str) -> None:
    found = slug(text)
    if expected.endswith("-"):
        assert re.fullmatch(re.escape(expected) + "[0-9a-f]{8}", found)
    else:
        assert found == expected


@given(st.text())
def test_every_text_has_a_name_that_every_part_takes(text: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug(text))
    assert len(slug(text)) <= 70


@given(st.text(alphabet="红绿蓝黄", min_size=1), st.text(alphabet="红绿蓝黄", min_size=1))
def test_texts_without_latin_letters_keep_their_difference(first: str, second: str) -> None:
    assert (slug(first) == slug(second)) == (first == second)


@given(st.text(alphabet="ab-", min_size=1))
def test_a_slug_is_its_own_slug(text: str) -> None:
    assert slug(slug(text)) == slug(text)


@given(st.lists(st.text(alphabet="abc-", min_size=1, max_size=90), min_size=1, max_size=5))
def test_joined_names_stay_short_and_different(parts: list[str]) -> None:
    name = join_name(*parts)
    assert len(name) <= MAX_NAME_CHARACTERS
    assert name != join_name(*parts, "more")


def test_a_hyphen_in_a_file_name_becomes_an_underscore() -> None:
    assert checked_set_name("winter-2026") == "winter_2026"


@pytest.mark.parametrize("stem", ["Winter", "a b", "a.b", "ä", "_a", "-a", "a" * 61, "冬"])
def test_other_file_names_are_refused_with_a_proposal(stem: str) -> None:
    with pytest.raises(ValueError, match=r"rename it, perhaps to [a-z0-9]"):
        checked_set_name(stem)


@pytest.mark.parametrize("key", ["Castle", "a b", "a.b", "-a", "_a", "a,b", "../x", "a" * 61, ""])
def test_other_prompt_names_are_refused_with_a_proposal(key: str) -> None:
    with pytest.raises(ValueError, match=r"perhaps [a-z0-9]"):
        checked_prompt_name(key)


@pytest.mark.parametrize("key", ["castle", "a-b", "a_b", "2", "a" * 60])
def test_prompt_names(key: str) -> None:
    assert checked_prompt_name(key) == key


@pytest.mark.parametrize(
    ("key", "proposed"),
    [
        ("城堡", "cheng-bao"),
        ("红", "hong"),
        ("ねこ", "neko"),
        ("Кот", "kot"),
        ("Straße", "strasse"),
    ],
)
def test_a_key_in_another_script_gets_a_readable_proposal(key: str, proposed: str) -> None:
    with pytest.raises(ValueError, match=f"perhaps {proposed}$"):
        checked_prompt_name(key)
    with pytest.raises(ValueError, match=f"rename it, perhaps to {proposed.replace('-', '_')}$"):
        checked_set_name(key)


def test_what_seeds_are_made_of_stays_as_it_was() -> None:
    assert slug("红") == "x-" + hashlib.sha256("红".encode()).hexdigest()[:8]
    assert name_part("红").stable == slug("红")


@pytest.mark.parametrize(
    ("text", "readable"),
    [
        ("城堡", "cheng-bao-f6f854a2"),
        ("红 cup", "hong-cup-e837a453"),
        ("Москва 2", "moskva-2-78b02130"),
        ("Crème Brûlée", "creme-brulee"),
        ("AB 1", "ab-1"),
    ],
)
def test_names_are_readable_and_keep_the_hash_where_letters_are_transliterated(
    text: str, readable: str
) -> None:
    assert name_part(text).readable == readable


def test_homophones_have_different_names() -> None:
    assert name_part("红").readable != name_part("洪").readable


@pytest.mark.parametrize("text", ["長" * 90, "x" * 90, "ж" * 90])
def test_readable_names_are_names(text: str) -> None:
    assert checked_prompt_name(name_part(text).readable[:60])
    assert len(name_part(text).readable) <= 69
