"""Iterates in chunks, and maps a function on a few threads that work ahead of the reader.

Both are lazy, so that memory stays flat over any number of items.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of ``size``, the last one shorter; none where there are no items.

    ``itertools.batched`` does the same from Python 3.12 on.
    """
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def map_ahead(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int
) -> Generator[Result, None, None]:
    """Yield ``work(item)`` for each item, in the items' order, computed on ``threads`` threads.

    At most ``2 * threads`` items are begun and not yet yielded: ``Executor.map`` would begin them
    all, and hold every result in memory. What ``work`` raises is raised where its result would have
    been yielded. Calls that have not begun by then, or when the reader stops, are not made.
    """
    remaining = iter(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="map-ahead") as pool:
        running = deque(pool.submit(work, item) for item in islice(remaining, 2 * threads))
        try:
            while running:
                yield running.popleft().result()
                running.extend(pool.submit(work, item) for item in islice(remaining, 1))
        finally:
            pool.shutdown(cancel_futures=True)
