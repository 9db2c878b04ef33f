"""A pipeline for tests: an emulator on a socket, a ledger on SQLite and a store in a folder."""

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.sql import SqlLedger
from flux_pipeline.models import build_request, find_model
from flux_pipeline.produce.budgets import Limits
from flux_pipeline.produce.policy import Policy, RunContext
from flux_pipeline.produce.producer import Producer
from flux_pipeline.produce.report import PartitionReport, Tally
from flux_pipeline.produce.spool import Spool
from flux_pipeline.provider.client import Provider
from flux_pipeline.provider.config import ProviderConfig, Timeouts
from flux_pipeline.request import Request, Source
from flux_pipeline.store.base import Store

MODEL = find_model("lucataco/flux-schnell-lora")
QUICK = EmulatorOptions(
    time_scale=0, creates_per_minute=None, calls_per_minute=None, render="cheap"
)
PATIENT = Timeouts(connect=20.0, create=50.0, call=50.0, download=100.0, silence=50.0)
"""A machine that is busy for some seconds must not look like a provider that hangs."""
IMPATIENT = Timeouts(connect=20.0, create=0.6, call=0.6, download=1.0, silence=0.5)
"""Where a fault hangs, and only there."""
POLICY = Policy(
    visibility=0.2,
    backoff=0.02,
    settle_patience=1.0,
    expected_seconds=0.05,
    gone_patience=0.5,
)


def make_requests(count: int, *, prompt_set: str = "set", **inputs: object) -> list[Request]:
    values = {"aspect_ratio": "1:1", "output_format": "jpg", **inputs}
    return [
        build_request(
            MODEL,
            MODEL.input_type.model_validate({"prompt": f"prompt {n}", "seed": n, **values}),
            Source(prompt_set, f"prompt-{n}"),
        )
        for n in range(count)
    ]


@dataclass
class Pipeline:
    """One emulator, one ledger, one store; runs of them."""

    server: EmulatorServer
    ledger: SqlLedger
    store: Store
    folder: Path
    policy: Policy = POLICY
    has_list: bool | None = None
    timeouts: Timeouts = PATIENT
    concurrency: int = 16
    output_hosts: tuple[str, ...] = ()
    """Beside the emulator's own origin, whose outputs are always fetched."""
    output_networks: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    """The only ones that the provider offers."""
    read_secret: Callable[[str], str | None] = lambda _name: None
    runs: int = 0
    reports: list[PartitionReport] = field(default_factory=list)

    @property
    def producer(self) -> Producer:
        config = ProviderConfig(
            base_url=self.server.origin,
            api_key="key-of-the-tests",
            timeouts=self.timeouts,
            has_list=self.has_list,
            creates_per_minute=60_000,
            calls_per_minute=600_000,
            output_hosts=self.output_hosts,
            output_networks=self.output_networks,
            models=self.models,
        )
        return Producer(
            open_provider=lambda: Provider(config),
            store=self.store,
            ledger=self.ledger,
            policy=self.policy,
            concurrency=self.concurrency,
            spool=self.spool,
            read_secret=self.read_secret,
        )

    @property
    def spool(self) -> Spool:
        return Spool(self.folder / "spool")

    def run(
        self,
        requests: Sequence[Request],
        *,
        split: int = 0,
        limits: Limits | None = None,
        on_report: Callable[[PartitionReport], None] = lambda _: None,
    ) -> Tally:
        self.runs += 1
        run = RunContext(f"run-{self.runs}", "set/images")
        self.reports = []
        partitions = [("first", requests[:split])] if split else []
        partitions.append(("p", requests[split:]))
        with self.producer.stream(partitions, run=run, limits=limits) as reports:
            for report in reports:
                self.reports.append(report)
                on_report(report)
        total = Tally()
        for report in self.reports:
            total.merge(report.tally)
        return total

    def reopen(self, *, later: float = 0.0) -> None:
        """The process is gone, and with it its claims; it is ``later`` seconds later."""
        self.ledger.dispose()
        clock = None if not later else lambda: time.time() + later
        url = f"sqlite:///{self.folder}/ledger.db"
        self.ledger = open_ledger(url, lease_seconds=self.policy.lease, clock=clock)

    @property
    def created(self) -> int:
        """Predictions that the provider accepted, by its own ledger."""
        return self.server.usage().creates_accepted

    @property
    def received(self) -> int:
        return self.server.usage().creates_received


def change_ledger(pipeline: Pipeline, statement: str) -> None:
    with closing(sqlite3.connect(pipeline.folder / "ledger.db")) as database, database:
        database.execute(statement)


def keys(pipeline: Pipeline, prefix: str) -> list[str]:
    return list(pipeline.store.list(prefix))
