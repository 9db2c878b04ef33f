"""Writes the lineage rows and ledger entries that are missing, a batch of requests at a time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, groupby
from uuid import uuid4

from flux_pipeline.audit.census import Census
from flux_pipeline.audit.entering import enter_stored
from flux_pipeline.audit.regrouping import Group
from flux_pipeline.ledger.base import Attempt
from flux_pipeline.ledger.sql import SqlLedger
from flux_pipeline.lineage.parts import write_part
from flux_pipeline.lineage.record import ImageRecord, ImageStatus, records_from_json
from flux_pipeline.store.base import Store


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
    """Keys of objects, and of lineage parts, that could not be used, with the reason."""


@dataclass(slots=True)
class Mender:
    """Writes rows before entries, as a run does: a crash in between costs nothing."""

    store: Store
    ledger: SqlLedger
    census: Census
    result: Reindexed
    run_id: str = field(default_factory=lambda: f"reindex-{uuid4().hex[:12]}")
    parts: int = 0

    def record(self, attempts: Iterable[Attempt]) -> None:
        """Write the rows that these attempts had, where the table lacks them."""
        recorded = []
        missing: list[ImageRecord] = []
        for attempt in attempts:
            lacking = self._lacking(records_from_json(attempt.images))
            missing += lacking
            if lacking or not attempt.recorded:
                recorded.append(attempt.request_sha256)
        self._write(missing)
        self.ledger.mark_recorded(recorded)

    def enter(self, groups: Iterable[Group]) -> None:
        """Write rows and entries of requests that the ledger doesn't know."""
        usable = {}
        for group in groups:
            self.result.failed |= group.failed
            if group.records:
                usable[group.request_sha256] = group
        for sha, attempt in self.ledger.find(list(usable)).items():
            reason = f"the ledger has its request as {attempt.state}, which is left as it is"
            self.result.failed |= dict.fromkeys(usable.pop(sha).keys, reason)
        self._write(self._lacking(chain.from_iterable(g.records for g in usable.values())))
        with self.ledger.transaction() as ledger:
            entered = [
                enter_stored(ledger, group.records, holder=self.run_id) for group in usable.values()
            ]
        self.result.entries += sum(entered)

    def _lacking(self, records: Iterable[ImageRecord]) -> list[ImageRecord]:
        return [record for record in records if not self._has_row(record)]

    def _has_row(self, record: ImageRecord) -> bool:
        stored = record.status is ImageStatus.STORED
        return self.census.has_row(record.request_sha256, record.output_index, stored=stored)

    def _write(self, records: Sequence[ImageRecord]) -> None:
        by_asset = sorted(records, key=lambda record: record.asset)
        for asset, rows in groupby(by_asset, key=lambda record: record.asset):
            of_asset = list(rows)
            write_part(
                self.store,
                of_asset,
                asset=asset,
                partition=f"rebuilt-{self.parts}",
                run_id=self.run_id,
                day=datetime.now(UTC).date(),
            )
            self.parts += 1
            self.result.rows += len(of_asset)
