"""Any prompt gives a picture of any size."""

from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.emulator.scenes import HOURS, draw, first_match, words_of

WORDS = st.sampled_from(["castle", "sea", "forest", "alps", "desert", "bottle", "night", "red", ""])


@settings(max_examples=40)
@given(st.binary(min_size=32, max_size=32), WORDS, WORDS, st.integers(8, 90), st.integers(8, 90))
def test_every_digest_and_size_can_be_drawn(
    digest: bytes, one: str, two: str, width: int, height: int
) -> None:
    image = draw(digest, f"{one} {two}", (width, height))
    assert (image.size, image.mode) == ((width, height), "RGB")


@settings(max_examples=25)
@given(st.text())
def test_any_text_can_be_a_prompt(prompt: str) -> None:
    assert draw(bytes(32), prompt, (16, 16)).size == (16, 16)


def test_the_earliest_word_decides() -> None:
    vocabulary = {"one": "red crimson", "two": "blue"}
    assert first_match(words_of("A blue house, red roof"), vocabulary) == "two"
    assert first_match(words_of("green"), vocabulary) is None


def test_skies_get_lighter_towards_the_horizon() -> None:
    assert all(sum(hour.sky[0]) < sum(hour.sky[-1]) for hour in HOURS.values())
