"""The long run: thousands of predictions, a fifth of the calls faulty, workers killed at random.

`make torture` runs it at full length; TORTURE_PREDICTIONS and TORTURE_KILLS change that. In
`make test` a short form runs. After each: provider's ledger = ours = store = lineage.
"""

import os
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.ledger.base import State
from flux_pipeline.ledger.opening import open_ledger
from flux_pipeline.lineage.parts import read_batches
from flux_pipeline.lineage.schema import batch_to_records
from flux_pipeline.produce.policy import Policy
from flux_pipeline.produce.producer import Producer
from flux_pipeline.produce.run import RunContext
from flux_pipeline.provider.client import Provider
from flux_pipeline.provider.config import ProviderConfig, Timeouts
from flux_pipeline.store.location import open_store
from tests.produce.conftest import make_requests
from tests.servers.processes import context

# A fifth of all calls. Nothing here costs a second prediction by itself: what fails at the
# provider is paid again by right, and would hide what is paid again by mistake.
FAULTS = {
    "seed": 11,
    "create": {
        "reset_before": 0.04,
        "server_error_before": 0.03,
        "reset_after": 0.05,
        "server_error_after": 0.03,
        "html_after": 0.02,
        "truncated_after": 0.01,
    },
    "poll": {"server_error": 0.06, "reset": 0.06, "html": 0.04, "not_found": 0.02, "cut": 0.02},
    "list": {"server_error": 0.1, "reset": 0.1},
    "download": {
        "server_error": 0.06,
        "cut_with_length": 0.05,
        "half_file": 0.03,
        "html": 0.03,
        "reset": 0.03,
    },
}


@dataclass(frozen=True)
class Load:
    predictions: int
    kills: int
    list_delay: float
    visibility: float
    concurrency: int = 8
    seed: int = 1

    @property
    def policy(self) -> Policy:
        return Policy(lease=15.0, send_timeout=6.0, visibility=self.visibility, backoff=0.1)


def work(folder: Path, origin: str, load: Load, run_id: str) -> None:
    """One worker: everything that is asked for, from wherever it stands."""
    config = ProviderConfig(
        base_url=origin,
        api_key="key-of-the-tests",
        timeouts=Timeouts(connect=2.0, create=5.0, call=5.0, download=5.0, silence=3.0),
        creates_per_minute=60_000,
        calls_per_minute=600_000,
    )
    with open_ledger(f"sqlite:///{folder}/ledger.db", lease_seconds=load.policy.lease) as ledger:
        producer = Producer(
            open_provider=lambda: Provider(config),
            store=open_store(f"file:{folder}/store"),
            ledger=ledger,
            policy=load.policy,
            concurrency=load.concurrency,
        )
        requests = make_requests(load.predictions)
        random.Random(run_id).shuffle(requests)  # noqa: S311
        partitions = [(f"p{n}", requests[n::20]) for n in range(20)]
        with producer.stream(partitions, run=RunContext(run_id, "set/images")) as reports:
            for _ in reports:
                pass


def kill_and_restart(folder: Path, origin: str, load: Load) -> int:
    """Keep two workers running and kill them at random; return how many kills there were."""
    dice, made, kills, ended = random.Random(load.seed), 0, 0, 0  # noqa: S311
    workers: list[Any] = []
    while ended < 2:
        while len(workers) < 2 - ended:
            made += 1
            target = (folder, origin, load, f"run-{made}")
            workers.append(context().Process(target=work, args=target))
            workers[-1].start()
        victim = dice.choice(workers)
        victim.join(dice.uniform(0.5, 4.0) if kills < load.kills else None)
        if victim.exitcode is None:
            victim.kill()
            victim.join()
            kills += 1
        else:
            assert victim.exitcode == 0
            ended += 1
        workers.remove(victim)
    return kills


def check(folder: Path, server: EmulatorServer, load: Load) -> Counter[str]:
    """Provider, ledger, store and lineage against each other."""
    provider = server.ledger()
    store = open_store(f"file:{folder}/store")
    with open_ledger(f"sqlite:///{folder}/ledger.db") as ledger:
        attempts = list(ledger.attempts())
        left = ledger.unfinished()
    states = Counter(attempt.state for attempt in attempts)
    ours = {attempt.prediction_id for attempt in attempts} - {None}
    theirs = {prediction.id for prediction in provider.predictions}
    images = list(store.list("images/"))
    rows = [
        record for batch in read_batches(store) for record in batch_to_records(batch) if record.uri
    ]
    assert provider.duplicates == ()
    assert provider.creates_accepted == load.predictions
    assert ours == theirs
    assert (states[State.STORED], states[State.HELD]) == (load.predictions, 0)
    assert states[State.DUPLICATE] == 0
    assert len(images) == load.predictions
    assert len({record.image_sha256 for record in rows}) <= load.predictions
    assert {record.prediction_id for record in rows} == theirs
    assert left == []
    return Counter({str(state): count for state, count in states.items()})


def torture(folder: Path, load: Load) -> None:
    options = EmulatorOptions(
        time_scale=0.3,
        render="cheap",
        creates_per_minute=None,
        calls_per_minute=None,
        list_delay_seconds=load.list_delay,
        retention_seconds=1e9,
    )
    with EmulatorServer(options, FaultPlan.model_validate(FAULTS)) as server:
        kills = kill_and_restart(folder, server.origin, load)
        states = check(folder, server, load)
        faults = sum(server.ledger().faults.values())
    print(f"{load.predictions} predictions, {kills} kills, {faults} faults: {dict(states)}")  # noqa: T201


def test_a_short_torture_loses_nothing_and_pays_nothing_twice(tmp_path: Path) -> None:
    torture(tmp_path, Load(predictions=120, kills=4, list_delay=0.5, visibility=1.5))


@pytest.mark.torture
def test_the_long_torture_loses_nothing_and_pays_nothing_twice(tmp_path: Path) -> None:
    predictions = int(os.environ.get("TORTURE_PREDICTIONS", "10000"))
    kills = int(os.environ.get("TORTURE_KILLS", "100"))
    torture(tmp_path, Load(predictions, kills, list_delay=10.0, visibility=15.0, concurrency=32))
