"""Every stored object read back: whole, decodable, and of the bytes and pixels recorded."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeAlias, TypeVar

from flux_pipeline.audit.census import Known
from flux_pipeline.audit.findings import Finding, Kind
from flux_pipeline.errors import ImageError, StoreError
from flux_pipeline.images.inspection import inspect_image
from flux_pipeline.store.base import Store

READERS = 8
Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number done and of all."""
T = TypeVar("T")
Item = TypeVar("Item")


def ignore(_done: int, _total: int) -> None:
    """The progress that nobody watches."""


def reread(store: Store, stored: Iterable[Known]) -> Iterator[list[Finding]]:
    """Read and decode each object; yield what is wrong with it, an empty list for nothing.

    A few are held in memory at once.
    """
    return ahead(stored, lambda known: list(_check(store, known)))


def ahead(items: Iterable[Item], work: Callable[[Item], T]) -> Iterator[T]:
    """Do ``work`` in a few threads, in the order of the items, a few items ahead."""
    remaining = iter(items)
    with ThreadPoolExecutor(READERS, thread_name_prefix="objects") as pool:
        first = islice(remaining, 2 * READERS)
        running: deque[Future[T]] = deque(pool.submit(work, item) for item in first)
        try:
            while running:
                yield running.popleft().result()
                running.extend(pool.submit(work, item) for item in islice(remaining, 1))
        finally:
            pool.shutdown(cancel_futures=True)


def _check(store: Store, known: Known) -> Iterator[Finding]:
    try:
        body = store.get(known.key)
    except StoreError as error:
        if store.head(known.key) is not None:
            yield Finding(Kind.UNREADABLE, known.key, f"{error}; {_RESTORE}")
        return
    differing = _differing(hashlib.sha256(body).hexdigest(), "bytes", known, store)
    try:
        name = known.key.rpartition(".")[2]
        seen = inspect_image(body, image_format=name, width=0, height=0)
        differing += _differing(seen.image_sha256, "pixels", known, store)
    except ImageError as error:
        yield Finding(Kind.UNREADABLE, known.key, f"{error}; {_RESTORE}")
    if differing:
        yield Finding(Kind.WRONG_HASH, known.key, f"{', '.join(differing)}; {_RESTORE}")


def _differing(found: str, what: str, known: Known, store: Store) -> list[str]:
    """Where other bytes, or other pixels, are recorded than were found."""
    if what == "bytes":
        recorded = {"the ledger": known.ledger_file, "the lineage": known.lineage_file}
    else:
        recorded = {"the ledger": known.ledger_pixels, "the lineage": known.lineage_pixels}
    if not any(recorded.values()):
        name = "file-sha256" if what == "bytes" else "image-sha256"
        stands = store.head(known.key)
        recorded = {"its metadata": stands.metadata.get(name) if stands else None}
    return [
        f"other {what} than {where} says"
        for where, hash_ in recorded.items()
        if hash_ not in {None, "", found}
    ]


_RESTORE = "restore it from a backup of the store"
