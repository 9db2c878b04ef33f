"""Lineage rows and ledger entries made again from the stored objects alone.

What exists is left as it is: a row that the ledger still has is written as it stands there, and
only what nobody knows is read from the files. So it can be repeated and interrupted at any time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby, islice
from uuid import uuid4

from flux_pipeline.ledger.base import State
from flux_pipeline.ledger.sql import SqlLedger
from flux_pipeline.lineage.parts import write_part
from flux_pipeline.lineage.record import ImageRecord
from flux_pipeline.lineage.rows import records_from_json
from flux_pipeline.produce.census import IMAGES, Census, Known
from flux_pipeline.produce.entering import enter_stored
from flux_pipeline.produce.regrouping import Group, read_group
from flux_pipeline.produce.rereading import ahead
from flux_pipeline.produce.surveying import survey_ledger, survey_lineage
from flux_pipeline.store.base import Store

_GROUPS = 1000
"""Requests whose rows become one part and whose entries one transaction."""


@dataclass(slots=True)
class Reindexed:
    """What was done."""

    images: int = 0
    """Objects below ``images/``."""
    rows: int = 0
    """Lineage rows written."""
    entries: int = 0
    """Requests entered in the ledger."""
    failed: dict[str, str] = field(default_factory=dict)
    """Keys of objects and parts that could not be used, with the reason."""


def reindex(
    store: Store, ledger: SqlLedger, *, progress: Callable[[int], None] = lambda _done: None
) -> Reindexed:
    """Give every stored image its lineage row and its request an entry in the ledger.

    ``progress`` is called with the number of requests that were looked at. Budgets are not charged,
    so what they had counted before the ledger was lost stays forgotten.

    Raises:
        StoreError, LedgerError: What was written before stays; run it again.
    """
    run_id = f"reindex-{uuid4().hex[:12]}"
    with Census() as census:
        census.add_stored(store.list(IMAGES))
        result = Reindexed(images=census.count())
        # The findings are `verify`'s to tell; what is read here is what they are judged from.
        for _ in survey_ledger(ledger.attempts(), census, store_uri=store.uri):
            pass
        for broken in survey_lineage(store, census):
            result.failed[broken.id] = broken.what
        work = ahead(_unknown(census), lambda objects: read_group(store, objects))
        done = 0
        while groups := list(islice(work, _GROUPS)):
            _Writer(store, ledger, run_id, result).write(groups, number=done // _GROUPS)
            done += len(groups)
            progress(done)
    return result


def _unknown(census: Census) -> Iterator[list[Known]]:
    """The objects of each request of which some are unknown to ledger or lineage."""
    for stem, _ in groupby(census.orphaned(), key=lambda known: known.key.rpartition("-")[0]):
        yield census.siblings(stem)


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes one batch of requests: the rows first, then the entries, as a run does."""

    store: Store
    ledger: SqlLedger
    run_id: str
    result: Reindexed

    def write(self, groups: Sequence[Group], *, number: int) -> None:
        """Write what the groups lack."""
        shas = [group.request_sha256 for group in groups if group.request_sha256]
        attempts = self.ledger.find(shas)
        rows: list[ImageRecord] = []
        new: list[Sequence[ImageRecord]] = []
        known: list[str] = []
        for group in groups:
            self.result.failed.update(group.failed)
            attempt = attempts.get(group.request_sha256)
            if not group.records:
                continue
            if attempt is None:
                rows += group.rows
                new.append(group.records)
            elif attempt.state is State.STORED:
                rows += records_from_json(attempt.images)
                known.append(group.request_sha256)
            else:
                reason = f"the ledger has its request as {attempt.state}, which is left as it is"
                self.result.failed.update(dict.fromkeys(group.keys, reason))
        self._write_rows(rows, number)
        self._enter(new, known)
