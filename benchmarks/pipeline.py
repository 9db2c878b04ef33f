"""This package as a contestant: with ledger, limiter, checks, labels, thumbnails and lineage."""

from contextlib import ExitStack
from pathlib import Path

from benchmarks.work import CONCURRENCY, make_shards
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.sql import SqlRates
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.produce.producer import Producer
from flux_pipeline.produce.report import Tally
from flux_pipeline.produce.spool import Spool
from flux_pipeline.provider.client import Provider
from flux_pipeline.provider.config import ProviderConfig
from flux_pipeline.store.open import open_store

_RATE = 600_000.0  # calls a minute: the provider must not be what is measured


class Pipeline:
    """Runs rounds against one provider and one store; the ledger is SQLite in ``folder``."""

    def __init__(self, origin: str, store: str, folder: Path) -> None:
        self._open = ExitStack()
        config = ProviderConfig(
            base_url=origin,
            api_key="benchmark",
            creates_per_minute=_RATE,
            calls_per_minute=_RATE,
            concurrency=CONCURRENCY,
        )
        ledger = self._open.enter_context(open_ledger(f"sqlite:///{folder}/ledger.db"))
        rates = SqlRates(ledger, {"create": _RATE, "call": _RATE})
        self._producer = Producer(
            open_provider=lambda: Provider(config, rates=rates),
            store=open_store(store, concurrency=CONCURRENCY),
            ledger=ledger,
            spool=Spool(folder / "spool"),
            concurrency=CONCURRENCY,
        )

    def run(self, round_name: str, count: int) -> None:
        """Make and store ``count`` images, or find that they are there."""
        shards, tally = make_shards(round_name, count), Tally()
        with self._producer.stream(shards, run=RunContext(round_name)) as reports:
            for report in reports:
                tally.merge(report.tally)
        if not tally.complete:
            raise SystemExit(f"{round_name}: not every image was stored: {tally}")
