"""Lineage rows and ledger entries made again: from each other, and from the stored objects alone.

What exists is left as it is, so this can be repeated and interrupted at any time. What the ledger
still has is taken from there; only what it doesn't know is read from the files.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import TypeVar

from flux_pipeline.audit.census import IMAGES, Census
from flux_pipeline.audit.mending import Mender, Reindexed
from flux_pipeline.audit.regrouping import read_group
from flux_pipeline.audit.rereading import Progress, ahead, ignore
from flux_pipeline.audit.surveying import survey_ledger, survey_lineage
from flux_pipeline.ledger.base import Attempt, State
from flux_pipeline.ledger.sql import SqlLedger
from flux_pipeline.lineage.record import records_from_json
from flux_pipeline.store.base import Store

T = TypeVar("T")
_BATCH = 500
"""Requests whose rows become one part, and whose entries one transaction."""


def reindex(store: Store, ledger: SqlLedger, *, progress: Progress = ignore) -> Reindexed:
    """Give every stored image its lineage row, and its request an entry in the ledger.

    ``progress`` is called with the number of objects read and of all. Budgets are not charged: what
    they had counted before the ledger was lost stays forgotten.

    Raises:
        StoreError, LedgerError: What was written before stays; run it again.
    """
    with Census() as census:
        census.add_stored(store.list(IMAGES))
        mender = Mender(store, ledger, census, Reindexed(images=census.count()))
        for broken in survey_lineage(store, census):
            mender.result.failed[broken.id] = broken.what
        surveyed = survey_ledger(ledger.attempts(), census, store_uri=store.uri)
        for _ in surveyed:  # what is wrong there is for `verify` to tell
            pass
        for attempts in _batches(_latest(ledger.attempts())):
            mender.record(attempts)
        reading = ahead(_unentered(census), lambda keys: read_group(store, keys))
        read = 0
        for groups in _batches(reading):
            mender.enter(groups)
            read += sum(len(group.keys) for group in groups)
            progress(read, mender.result.images)
        return mender.result


def _latest(attempts: Iterable[Attempt]) -> Iterator[Attempt]:
    """The attempt of each request whose records are in the lineage table, where it is over."""
    for _, history in groupby(attempts, key=lambda attempt: attempt.request_sha256):
        followed = [each for each in history if each.state is not State.DUPLICATE]
        if followed and not followed[-1].state.is_open and _has_records(followed[-1]):
            yield followed[-1]


def _has_records(attempt: Attempt) -> bool:
    try:
        return bool(records_from_json(attempt.images))
    except ValueError:
        return False  # `verify` names it


def _unentered(census: Census) -> Iterator[list[str]]:
    """The keys of each request that the ledger doesn't know: they follow one another."""
    keys = (known.key for known in census.unentered())
    for _, group in groupby(keys, key=lambda key: key.rpartition("-")[0]):
        yield list(group)


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, _BATCH)):
        yield batch
