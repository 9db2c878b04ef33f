"""What a reader of the list keeps of an entry: all that it shows, in little memory."""

import asyncio
import json
import time
import tracemalloc
from collections.abc import Mapping
from typing import Any
from weakref import WeakValueDictionary

from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.provider.http import Reply
from flux_pipeline.provider.listing import ListEntry, ListReader, Match, SharedEntries, matches
from tests.provider.prediction_list import entry
from tests.provider.samples import MODEL, VERSION, make_request

SEEDS = st.sampled_from([7, 7.0, 8, "7", None, True, 7.5, 2**53 + 1, [7]])
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), JSON, max_size=3), JSON | st.builds(dict, seed=SEEDS))
def test_all_that_is_shown_is_kept(others: dict[str, Any], shown_input: Any) -> None:
    shown = {**others, "input": shown_input}
    assert ListEntry.of(shown).read() == shown


@given(st.builds(dict, seed=SEEDS, prompt=st.just("a castle")) | JSON, st.sampled_from([7, None]))
def test_only_what_is_no_match_has_another_seed(shown_input: Any, seed: int | None) -> None:
    shown = {"model": MODEL, "version": VERSION, "input": shown_input}
    request = make_request(seed=seed)
    if ListEntry.of(shown).has_another_seed(request):
        assert matches(shown, request) is Match.NO


def test_an_entry_takes_little_more_than_its_text() -> None:
    text = json.dumps(entry(7, at=1, logs="line\n" * 20, urls={"get": "https://h.example/" * 9}))
    tracemalloc.start()
    try:
        kept = [ListEntry.of(json.loads(text)) for _ in range(1_000)]
        size = tracemalloc.get_traced_memory()[0] / len(kept)
    finally:
        tracemalloc.stop()
    assert size < len(text) + 1_000


def test_readers_share_the_entries_that_both_were_shown_while_one_of_them_has_them() -> None:
    pages = [[entry(number, at=1) for number in numbers] for numbers in ((1, 2), (3, 2))]
    replies = iter([Reply(200, body=json.dumps({"results": page}).encode()) for page in pages])

    async def fetch(_query: Mapping[str, str]) -> Reply:
        return next(replies)

    async def read() -> list[ListEntry]:
        reader = ListReader(fetch, clock=time.time, secrets=(), page_tries=1, shared=shared)
        assert await reader.read_beyond(0) is None
        return reader.entries

    shared: SharedEntries = WeakValueDictionary()
    first, second = asyncio.run(read()), asyncio.run(read())
    assert [each.read() for each in second] == pages[1]
    assert first[1] is second[1]
    assert len(shared) == 3
    del first, second
    assert len(shared) == 0


def test_an_entry_that_is_nested_too_deeply_is_unclear() -> None:
    nested: Any = None
    for _ in range(100_000):
        nested = [nested]
    kept = ListEntry.of({"id": "x", "input": {"prompt": nested}}).read()
    assert matches(kept, make_request()) is Match.UNCLEAR
    while nested:  # or taking it apart would use as many frames
        nested = nested.pop()
