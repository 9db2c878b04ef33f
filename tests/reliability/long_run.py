"""Workers under load, faults and signals; afterwards provider, ledger, store and lineage compared.

A worker is a process with the real producer, over real sockets, on one SQLite ledger and one
folder. What disturbs them is drawn from a seed; when, is up to the machine.
"""

import math
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.ledger.base import State
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.sql import SqlLedger
from flux_pipeline.lineage.parts import list_parts, read_parts
from flux_pipeline.lineage.schema import batch_to_records
from flux_pipeline.produce.pictures import InputFiles
from flux_pipeline.produce.policy import Policy, RunContext
from flux_pipeline.produce.producer import Producer
from flux_pipeline.produce.spool import Spool
from flux_pipeline.provider.client import Provider
from flux_pipeline.provider.config import ProviderConfig, Route, Timeouts
from flux_pipeline.store.base import Store
from flux_pipeline.store.open import open_store
from tests.produce.pipeline import make_requests
from tests.servers.fork_server import context

# A fifth of all calls. Nothing here costs a second prediction by itself: what fails at the
# provider is paid again by right, and would hide what is paid again by mistake.
A_FIFTH: Mapping[str, Any] = {
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
# Creates go through, so that only what the signals do makes their fate unknown.
CALM_CREATES: Mapping[str, Any] = {**A_FIFTH, "create": {}}
INTERRUPTED = 130
PATIENCE = 600.0
"""s, against hanging alone."""
# By itself, drained, killed, or asked to stop before it had begun.
_ENDS = (0, -INTERRUPTED, signal.SIGKILL, signal.SIGTERM)


@dataclass(frozen=True)
class Load:
    """What is asked for, and under what."""

    predictions: int
    disturbances: int
    faults: Mapping[str, Any] = field(default_factory=lambda: A_FIFTH)
    workers: int = 2
    concurrency: int = 32
    list_delay: float = 10.0
    has_list: bool = True
    policy: Policy = field(default_factory=lambda: quick_policy(visibility=15.0))
    seconds: tuple[float, float] = (0.5, 4.0)
    """Between two disturbances, the shortest and the longest time."""
    latency: float = 0.15
    seed: int = 1
    drain_limit: float = math.inf
    """s from SIGTERM to the end; no limit where the suite runs on any machine."""


def quick_policy(*, visibility: float, **changes: Any) -> Policy:
    return Policy(lease=60.0, send_timeout=30.0, visibility=visibility, backoff=0.1, **changes)


@dataclass
class Workers:
    """Workers on one ledger and one store, and what was seen of them."""

    folder: Path
    origin: str
    """The provider's."""
    load: Load
    target: Callable[..., None] | None = None
    """What each does; ``work`` where it is None."""
    started: int = 0
    disturbed: int = 0
    slowest_exit: float = 0.0
    peaks: list[int] = field(default_factory=list)
    """Peak memory of each worker that ended by itself, KiB."""

    @property
    def store(self) -> Store:
        return open_store(f"file:{self.folder}/store")

    @contextmanager
    def ledger(self) -> Iterator[SqlLedger]:
        url = f"sqlite:///{self.folder}/ledger.db"
        with open_ledger(url, lease_seconds=self.load.policy.lease) as ledger:
            yield ledger

    def start(self, target: Callable[..., None] | None = None, *, origin: str = "") -> Any:
        """Start a worker; ``origin``: the provider's, where that is not the scene's own."""
        self.started += 1
        arguments = (self.folder, origin or self.origin, self.load, f"run-{self.started}")
        process = context().Process(target=target or self.target or work, args=arguments)
        process.start()
        return process


@dataclass
class Scene(Workers):
    """Workers, and the emulator that is their provider."""

    server: EmulatorServer = field(kw_only=True)


@contextmanager
def scene(folder: Path, load: Load, *, port: int = 0, output_origin: str = "") -> Iterator[Scene]:
    options = EmulatorOptions(
        output_origin=output_origin,
        latency_median=load.latency,
        render="cheap",
        creates_per_minute=None,
        calls_per_minute=None,
        list_enabled=load.has_list,
        list_delay_seconds=load.list_delay,
        retention_seconds=1e9,
    )
    with EmulatorServer(options, FaultPlan.model_validate(load.faults), port=port) as server:
        yield Scene(folder, server.origin, load, server=server)


def work(folder: Path, origin: str, load: Load, run_id: str) -> None:
    """One worker: everything that is asked for, from wherever it stands."""
    # As Dagster has it: both signals raise in the main thread.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        make_all(folder, origin, load, run_id)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        (folder / f"{run_id}.peak").write_text(str(peak))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it has ended by itself
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def make_all(folder: Path, origin: str, load: Load, run_id: str) -> None:
    """Everything that is asked for, in this process."""
    with open_producer(folder, origin, load) as producer:
        requests = make_requests(load.predictions)
        random.Random(run_id).shuffle(requests)  # noqa: S311
        partitions = [(f"p{n}", requests[n::20]) for n in range(20)]
        run = RunContext(run_id, "set/images")
        with producer.stream(partitions, run=run, asked=len(requests)) as reports:
            for _ in reports:
                pass


@contextmanager
def open_producer(
    folder: Path,
    origin: str,
    load: Load,
    *,
    input_files: InputFiles = "auto",
    route: Route = "predictions",
) -> Iterator[Producer]:
    config = ProviderConfig(
        base_url=origin,
        api_key="key-of-the-tests",
        timeouts=Timeouts(create=0.8 * load.policy.send_timeout),
        has_list=load.has_list,
        creates_per_minute=60_000,
        calls_per_minute=600_000,
        route=route,
    )
    with open_ledger(f"sqlite:///{folder}/ledger.db", lease_seconds=load.policy.lease) as ledger:
        yield Producer(
            open_provider=lambda: Provider(config),
            store=open_store(f"file:{folder}/store"),
            ledger=ledger,
            policy=load.policy,
            concurrency=load.concurrency,
            spool=Spool(folder / "spool"),
            account=origin,
            input_files=input_files,
        )


Disturb = Callable[[Workers, Any], bool]
"""Disturb a living worker; return whether it must be replaced."""


def kill(_scene: Workers, worker: Any) -> bool:
    worker.kill()
    worker.join()
    return True


def terminate(scene: Workers, worker: Any) -> bool:
    """Ask it to stop, as a supervisor does, and see how long it takes."""
    begun = time.monotonic()
    worker.terminate()
    worker.join(PATIENCE)
    scene.slowest_exit = max(scene.slowest_exit, time.monotonic() - begun)
    return True


def stop(scene: Workers, worker: Any) -> bool:
    """Stop it for up to twice its lease, and let it go on as if nothing had been."""
    dice = random.Random(scene.disturbed)  # noqa: S311
    with suppress(ProcessLookupError):  # it may end by itself at this very moment
        os.kill(worker.pid, signal.SIGSTOP)
        worker.join(dice.uniform(0.1, 2 * scene.load.policy.lease))
        os.kill(worker.pid, signal.SIGCONT)
    return False


def disturb(scene: Workers, how: Disturb) -> None:
    """Keep the workers running and disturb them at random, until they have ended by themselves."""
    load = scene.load
    dice = random.Random(load.seed)  # noqa: S311
    workers = [scene.start() for _ in range(load.workers)]
    while workers:
        worker = dice.choice(workers)
        worker.join(dice.uniform(*load.seconds) if scene.disturbed < load.disturbances else None)
        if worker.exitcode is None:
            scene.disturbed += 1
            if how(scene, worker):
                assert -worker.exitcode in _ENDS, worker.exitcode
                workers[workers.index(worker)] = scene.start()
        else:
            assert worker.exitcode == 0
            workers.remove(worker)
    scene.peaks = [int(path.read_text()) for path in scene.folder.glob("*.peak")]


@dataclass(frozen=True)
class Books:
    """Provider, ledger, store and lineage, counted after a run."""

    created: int
    failed: int
    """Predictions that failed at the provider: what it was asked for again is paid again."""
    paid_twice: int
    """Requests with more than one prediction that succeeded."""
    states: Counter[State]
    images: int
    faults: int

    @property
    def held(self) -> int:
        return self.states[State.HELD]

    @property
    def resent(self) -> int:
        return self.states[State.RESENT]


def read_books(scene: Scene) -> Books:
    """Compare all four. What differs between them is an error here, whatever was lost or held."""
    provider, store = scene.server.usage(), scene.store
    with scene.ledger() as ledger:
        attempts = list(ledger.attempts())
        assert ledger.unfinished() == []
    states = Counter(attempt.state for attempt in attempts)
    ours = {attempt.prediction_id for attempt in attempts} - {None}
    theirs = {prediction.id for prediction in provider.predictions}
    stored = {a.prediction_id for a in attempts if a.state is State.STORED}
    images = list(store.list("images/"))
    rows = {
        record.prediction_id
        for _, part in read_parts(store, list_parts(store))
        for record in batch_to_records(part)
        if record.uri
    }
    assert ours <= theirs
    assert rows == stored
    assert len(images) == len(stored) == states[State.STORED]
    succeeded = Counter(each.input_sha for each in provider.predictions if each.status != "failed")
    unknown = len(theirs - ours)
    assert unknown <= states[State.HELD] + states[State.RESENT]
    return Books(
        created=provider.creates_accepted,
        failed=sum(each.status == "failed" for each in provider.predictions),
        paid_twice=sum(count > 1 for count in succeeded.values()),
        states=states,
        images=len(images),
        faults=sum(provider.faults.values()),
    )


def with_policy(load: Load, **changes: Any) -> Load:
    return replace(load, policy=replace(load.policy, **changes))
