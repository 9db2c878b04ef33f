"""Runs of the real engine on a virtual clock, against a provider that counts: hours in seconds.

The engine, the state machine, the limiter and the poll schedule are the real ones. The ledger, the
store and the provider are not: they take their time, and answer.
"""

import asyncio
from bisect import insort
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import anyio

from flux_pipeline.ledger.base import Attempt, Claimed, Intent, State
from flux_pipeline.outcomes import Accepted, Polled, PollFailed, Throttled
from flux_pipeline.prediction import Output, Prediction, Status
from flux_pipeline.produce import effects as fx
from flux_pipeline.produce.bounds import Bounds
from flux_pipeline.produce.brake import Brake
from flux_pipeline.produce.engine import Engine
from flux_pipeline.produce.in_flight import InFlight
from flux_pipeline.produce.policy import Policy, RunContext
from flux_pipeline.produce.report import Progress
from flux_pipeline.provider.limiter import Limiter, MemoryRates
from flux_pipeline.provider.polling import PollSchedule
from flux_pipeline.request import Request
from tests.reliability.simulator import RECORD, make_request

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
BURST = 2.0
"""s; a bucket of the provider holds what flows in during this time."""


@dataclass
class Model:
    """How long predictions of one model take, s."""

    median: float
    spread: float = 0.25
    cold: float = 0.02
    machines: int = 0
    """How many predictions are made at once; 0 for any number."""
    free_at: list[float] = field(default_factory=list)

    def start(self, now: float, chance: Random) -> tuple[float, float]:
        """When a prediction that is accepted now starts and ends."""
        takes = self.median * chance.lognormvariate(0, self.spread)
        begins = now + (chance.uniform(40, 120) if chance.random() < self.cold else 0.0)
        if self.machines:
            if len(self.free_at) >= self.machines:
                begins = max(begins, self.free_at.pop(0))
            insort(self.free_at, begins + takes)
        return begins, begins + takes


@dataclass
class VirtualProvider:
    """Accepts creates at a rate, and counts."""

    per_second: float
    models: dict[str, Model]
    calls_per_second: float
    download_seconds: float = 0.3
    clock: Any = anyio.current_time
    accepted_at: dict[str, list[float]] = field(default_factory=dict)
    """By model."""
    times: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    """Of each prediction: created, started, ended."""
    counts: Counter[str] = field(default_factory=Counter)
    under_way: int = 0
    most_under_way: int = 0
    waits: list[float] = field(default_factory=list)
    """s from the create until the image was stored, by prediction."""
    tokens: dict[str, tuple[float, float]] = field(default_factory=dict)
    chance: Random = field(default_factory=lambda: Random(1))  # noqa: S311  a schedule

    def refuses(self, kind: str) -> bool:
        """Count one call; whether it is one too many."""
        rate = self.per_second if kind == "create" else self.calls_per_second
        now, room = self.clock(), max(rate * BURST, 1.0)
        tokens, filled_at = self.tokens.get(kind, (room, now))
        tokens = min(tokens + (now - filled_at) * rate, room)
        refused = tokens < 1
        self.tokens[kind] = (tokens - (not refused), now)
        self.counts[kind] += 1
        self.counts["429"] += refused
        return refused

    def create(self, model: str) -> Prediction:
        now, name = self.clock(), f"p{len(self.times)}"
        self.accepted_at.setdefault(model, []).append(now)
        self.times[name] = (now, *self.models[model].start(now, self.chance))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        return Prediction(id=name, status=Status.STARTING)

    def read(self, name: str) -> Prediction:
        created, started, ended = self.times[name]
        if self.clock() < ended:
            return Prediction(id=name, status=Status.PROCESSING)
        return Prediction(
            id=name,
            status=Status.SUCCEEDED,
            outputs=(Output(0, "u"),),
            created_at=BEGUN + timedelta(seconds=created),
            completed_at=BEGUN + timedelta(seconds=ended),
            predict_seconds=ended - started,
        )

    def store(self, name: str) -> None:
        self.under_way -= 1
        self.waits.append(self.clock() - self.times[name][0])

    def share_used(self, *models: str) -> float:
        """Of the rate, from the first create to the last."""
        times = sorted(at for model in models or self.models for at in self.accepted_at[model])
        return (len(times) - 1) / (times[-1] - times[0]) / self.per_second

    @property
    def polls(self) -> float:
        """A prediction."""
        return self.counts["call"] / len(self.times)

    @property
    def refused(self) -> float:
        """The share of the calls that were answered with 429."""
        return self.counts["429"] / (self.counts["create"] + self.counts["call"])


@dataclass
class Worker:
    """One process: a limiter and a poll schedule of its own."""

    provider: VirtualProvider
    limiter: Limiter
    downloads: anyio.CapacityLimiter
    schedule: PollSchedule = field(default_factory=PollSchedule)
    policy: Policy = field(default_factory=Policy)
    cap: int | None = None

    async def run(self, requests: Sequence[Request]) -> None:
        send, receive = anyio.create_memory_object_stream[Any](10)
        with send, receive:
            async with anyio.create_task_group() as group:
                services: Any = SimpleNamespace(
                    ledger=SimpleNamespace(call=self._find),
                    run=RunContext(uuid4().hex),
                    policy=self.policy,
                    clock=self.provider.clock,
                    brake=Brake(),
                    schedule=self.schedule,
                )
                recorder: Any = SimpleNamespace(record=_nothing, add_thumbnail=_nothing)
                make_handler: Any = lambda request, _follower: Handler(self, request)  # noqa: E731
                engine = Engine(
                    services=services,
                    recorder=recorder,
                    make_handler=make_handler,
                    observe=lambda _result: None,
                    progress=Progress(0),
                    reports=send,
                    bounds=Bounds(
                        InFlight(self.schedule.predict_seconds),
                        anyio.Semaphore(self.cap) if self.cap else None,
                    ),
                    group=group,
                )
                await engine.feed([("all", requests)])

    async def _find(self, _work: object) -> dict[str, Attempt]:
        return {}


async def _nothing(_value: object) -> None:
    pass


@dataclass
class Handler:
    """Performs the effects of one request on the virtual provider."""

    worker: Worker
    request: Request
    holder: str = field(default_factory=lambda: uuid4().hex)
    attempts: Iterator[int] = field(default_factory=lambda: count(1))

    async def perform(self, effect: fx.Effect) -> object:
        act = getattr(self, type(effect).__name__, None)
        return None if act is None else await act(effect)

    async def AwaitPermit(self, _effect: fx.AwaitPermit) -> None:
        await self.worker.limiter.acquire("create")

    async def ClaimAttempt(self, _effect: fx.ClaimAttempt) -> Claimed:
        await anyio.sleep(0.01)
        intent = Intent(self.request.request_sha256, "set", "run", 0, "{}")
        now = anyio.current_time()
        attempt = Attempt(
            self.request.request_sha256,
            next(self.attempts),
            State.INTENT,
            self.holder,
            claimed_at=now,
            intent_at=now,
            intent=intent,
        )
        return Claimed(attempt, fresh=True)

    async def Send(self, _effect: fx.Send) -> Accepted | Throttled:
        provider, sent_at = self.worker.provider, anyio.current_time()
        await anyio.sleep(provider.chance.uniform(0.05, 0.3))
        if provider.refuses("create"):
            await self.worker.limiter.slow_down("create", 1.0, sent_at=sent_at)
            return Throttled(1.0)
        return Accepted(provider.create(self.request.model))

    async def WriteAccepted(self, _effect: fx.WriteAccepted) -> State:
        await anyio.sleep(0.01)
        return State.ACCEPTED

    async def AwaitPoll(self, effect: fx.AwaitPoll) -> bool:
        return await self.worker.schedule.pause(
            self.request.model,
            elapsed=effect.elapsed + effect.age,
            polls=effect.polls,
            waited=effect.waited,
            name=self.holder,
            most=self.worker.policy.lease / 3,
        )

    async def Poll(self, effect: fx.Poll) -> Polled | PollFailed:
        worker = self.worker
        sent_at = await worker.limiter.acquire("call")
        await anyio.sleep(0.05)
        if worker.provider.refuses("call"):
            await worker.limiter.slow_down("call", 1.0, sent_at=sent_at)
            return PollFailed("429", 1.0)
        prediction = worker.provider.read(effect.prediction_id)
        if prediction.status.is_final:
            worker.schedule.observe(self.request.model, prediction, name=self.holder)
        return Polled(prediction)

    async def StoreOutput(self, effect: fx.StoreOutput) -> fx.Stored:
        async with self.worker.downloads:
            await anyio.sleep(self.worker.provider.download_seconds)
        self.worker.provider.store(effect.prediction.id or "")
        return fx.Stored(RECORD)

    async def WriteSucceeded(self, _effect: fx.WriteSucceeded) -> bool:
        return True

    async def RenewClaim(self, _effect: fx.RenewClaim) -> bool:
        return True

    async def Close(self, _effect: fx.Close) -> bool:
        return True

    async def Sleep(self, effect: fx.Sleep) -> None:
        await anyio.sleep(max(effect.seconds, 0.0))


async def run_workers(
    provider: VirtualProvider,
    requests: int,
    *,
    workers: int = 1,
    cap: int | None = None,
    asked_rate: float | None = None,
    downloads: int = 64,
) -> None:
    """Make so many requests, with all models in turn, by workers that share the rate.

    ``asked_rate`` is the rate of creates that is set, a second; None: the provider's own.
    """
    provider.clock = clock = asyncio.get_running_loop().time
    rate = asked_rate or provider.per_second
    rates = MemoryRates({"create": 60 * rate, "call": 60 * provider.calls_per_second}, clock=clock)
    models = list(provider.models)
    asked = [
        replace(make_request(number), model=models[number % len(models)])
        for number in range(requests)
    ]
    async with anyio.create_task_group() as group:
        for number in range(workers):
            worker = Worker(
                provider, Limiter(rates, clock=clock), anyio.CapacityLimiter(downloads), cap=cap
            )
            group.start_soon(worker.run, asked[number::workers])
