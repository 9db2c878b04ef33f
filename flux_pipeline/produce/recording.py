"""A finished partition's lineage part: written to the store, then noted in the ledger."""

from dataclasses import dataclass
from datetime import UTC, datetime

from anyio import to_thread

from flux_pipeline.ledger.batch import LedgerWriter
from flux_pipeline.ledger.transaction import Transaction
from flux_pipeline.lineage.parts import write_part
from flux_pipeline.produce.run import RunContext
from flux_pipeline.produce.tracking import Tracker
from flux_pipeline.store.base import Store


@dataclass(frozen=True, slots=True)
class Recorder:
    """Records what one run made."""

    store: Store
    ledger: LedgerWriter[Transaction]
    run: RunContext

    async def record(self, tracker: Tracker) -> str | None:
        """Write the rows that the table lacks; return the part's uri, None where it lacks none.

        The part's key is fixed by asset, partition and run, so writing it again replaces it. Only
        what is in the table is noted as recorded, so a crash in between costs one more part.
        """
        records = [record for result in tracker.unrecorded for record in result.records]
        if not records:
            return None
        part = await to_thread.run_sync(
            lambda: write_part(
                self.store,
                records,
                asset=self.run.asset,
                partition=tracker.partition,
                run_id=self.run.run_id,
                day=datetime.now(UTC).date(),
            )
        )
        written = [result.request.request_sha256 for result in tracker.unrecorded]
        await self.ledger.call(lambda ledger: ledger.mark_recorded(written))
        return part.uri
