"""Chunks, and a mapping that works a few items ahead of its reader."""

import threading
from collections.abc import Iterator
from itertools import count, islice

import pytest

from flux_pipeline.iteration import batched, map_ahead


@pytest.mark.parametrize(
    ("number", "sizes"), [(0, []), (1, [1]), (3, [3]), (4, [3, 1]), (7, [3, 3, 1])]
)
def test_every_item_is_in_one_batch_and_in_order(number: int, sizes: list[int]) -> None:
    batches = list(batched(iter(range(number)), 3))
    assert [len(batch) for batch in batches] == sizes
    assert [item for batch in batches for item in batch] == list(range(number))


def test_an_endless_stream_can_be_batched() -> None:
    assert list(islice(batched(count(), 2), 2)) == [[0, 1], [2, 3]]


def test_results_come_in_the_order_of_the_items_whoever_ends_first() -> None:
    second_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert second_done.wait(60)
        if item == 1:
            second_done.set()
        return item * item

    assert list(map_ahead(work, range(20), threads=2)) == [item * item for item in range(20)]


def test_nothing_to_map_is_nothing() -> None:
    assert list(map_ahead(str, [], threads=2)) == []


def test_only_a_few_items_are_taken_ahead_of_the_reader() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    results = map_ahead(str, items(), threads=2)
    assert taken == []
    for read in range(10):
        assert next(results) == str(read)
        assert len(taken) == 4 + read
    results.close()
    assert len(taken) == 13


def test_an_error_comes_at_its_place_and_ends_the_mapping() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 2:
            raise KeyError(item)
        return item

    results = map_ahead(work, range(1000), threads=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError):
        next(results)
    assert max(begun) < 10
    assert next(results, None) is None


def test_a_reader_that_stops_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    results = map_ahead(str, range(100), threads=4)
    next(results)
    assert threading.active_count() > before
    results.close()
    assert threading.active_count() == before
