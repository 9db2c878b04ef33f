"""Fixtures: pipelines that are closed when their test ends."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.store.open import open_store
from tests.produce.pipeline import POLICY, QUICK, Pipeline


@pytest.fixture
def open_pipeline(tmp_path: Path) -> Iterator[Callable[..., Pipeline]]:
    opened: list[Pipeline] = []

    def make(
        faults: FaultPlan | None = None,
        options: EmulatorOptions = QUICK,
        finish: Callable[[bytes], bytes] = bytes,
        kind: type[Pipeline] = Pipeline,
        **more: object,
    ) -> Pipeline:
        server = EmulatorServer(options, faults, finish=finish)
        server.__enter__()
        ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.db", lease_seconds=POLICY.lease)
        store = open_store(f"file:{tmp_path}/store")
        opened.append(kind(server, ledger, store, tmp_path, **more))  # type: ignore[arg-type]
        return opened[-1]

    yield make
    for pipeline in opened:
        pipeline.ledger.dispose()
        pipeline.server.__exit__(None, None, None)


@pytest.fixture
def pipeline(open_pipeline: Callable[..., Pipeline]) -> Pipeline:
    return open_pipeline()
