import gc
from collections.abc import Iterator

import pytest

from flux_pipeline.produce.garbage import fewer_collections


@pytest.fixture(autouse=True)
def _own_setting() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


def test_garbage_is_looked_for_less_often_until_the_last_run_has_ended() -> None:
    with fewer_collections():
        assert gc.get_threshold() == (50_000, 10, 10)
        with fewer_collections():
            pass
        assert gc.get_threshold() == (50_000, 10, 10)
    assert gc.get_threshold() == (700, 10, 10)


def test_it_is_restored_after_an_error() -> None:
    with pytest.raises(KeyError), fewer_collections():
        raise KeyError
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("objects", [0, 60_000])
def test_a_process_that_looks_more_seldom_is_left_as_it_is(objects: int) -> None:
    gc.set_threshold(objects, 5, 5)
    with fewer_collections():
        assert gc.get_threshold() == (objects, 5, 5)
    assert gc.get_threshold() == (objects, 5, 5)
