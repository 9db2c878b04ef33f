"""A seeded simulator of the core: virtual time, 1-3 workers, crashes around every effect.

It runs the real ``produce.core`` against a provider that loses replies, shows new predictions late
and counts what it charges, and against the in-memory ledger that passes the ledger's contract.
A schedule is a pure function of its seed, so a failure is repeated by its number.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from flux_pipeline.ledger.base import Attempt, Intent, State
from flux_pipeline.ledger.codec import dump_reply
from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.outcomes import (
    Absent,
    Accepted,
    Ambiguous,
    Found,
    Gone,
    ListFailed,
    NeverSent,
    NoList,
    Polled,
    PollFailed,
    Refused,
    Throttled,
)
from flux_pipeline.prediction import Output, Prediction, Status
from flux_pipeline.produce import effects as fx
from flux_pipeline.produce.core import produce
from flux_pipeline.produce.policy import Policy, RunContext
from flux_pipeline.produce.report import Result
from flux_pipeline.request import Request, Source
from tests.ledger.memory import MemoryLedger

LEASE = 120.0
VISIBILITY = 30.0
RUN = RunContext("run")
EPOCH = 1_700_000_000.0


def make_request(number: int) -> Request:
    return Request(
        model="owner/model",
        version="0" * 64,
        input={"prompt": "p", "seed": number},
        request_sha256=f"{number:064x}",
        outputs=1,
        width=8,
        height=8,
        image_format="png",
        cost_usd=0.003,
        source=Source("set", f"prompt-{number}"),
    )


REQUESTS = [make_request(number) for number in range(1, 4)]
INTENTS = [Intent(r.request_sha256, "set", "run", 3000, "{}") for r in REQUESTS]
RECORD = ImageRecord(
    prediction_id="p",
    output_index=0,
    request_sha256="0" * 64,
    prompt_set="set",
    prompt_name="prompt",
    take=1,
    partition="",
    model="owner/model",
    version="0" * 64,
    prompt="p",
    num_outputs=1,
    seed_source="request",
    input="{}",
    run_id="run",
    asset="",
    config_path="",
    config_sha256="",
    code_version="",
    status=ImageStatus.STORED,
    format="png",
)


@dataclass(slots=True)
class Charge:
    """One prediction that the provider accepted, and so charges for."""

    id: str
    request: int
    created_at: float
    visible_at: float
    ends_at: float
    end: Status


@dataclass(slots=True)
class Worker:
    holder: str
    requests: Sequence[int]
    alive: bool = True
    stopped_until: float = 0.0
    open_slots: int = 0


@dataclass(slots=True)
class Slot:
    worker: Worker
    request: int
    stage: Any

    @property
    def holder(self) -> str:
        return f"{self.worker.holder}/{self.request}"


@dataclass(frozen=True, slots=True)
class Weather:
    """How hostile one schedule is; probabilities per effect, times in seconds."""

    crash: float = 0.04
    stop: float = 0.01
    has_list: bool = True
    lateness: float = 10.0
    skew: float = 3.0
    refused: float = 0.05


@dataclass
class World:
    """One schedule. ``run`` returns the invariants that are broken."""

    seed: int
    weather: Weather = field(default_factory=Weather)
    policy: Policy = field(
        default_factory=lambda: Policy(lease=LEASE, visibility=VISIBILITY, busy_interval=20.0)
    )

    def __post_init__(self) -> None:
        self.random = Random(self.seed)  # noqa: S311  a schedule, not a secret
        self.now = 0.0
        self.order = 0
        self.heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.ledger = self.make_ledger()
        self.charges: list[Charge] = []
        self.stored: Counter[int] = Counter()
        self.results: dict[int, Result] = {}
        self.broken: list[str] = []
        self.calm = False
        self.crashes = 0
        self.skew = self.random.uniform(-self.weather.skew, self.weather.skew)
        count = self.random.randint(1, len(REQUESTS))
        self.requests = range(count)
        self.bad = {n for n in self.requests if self.random.random() < self.weather.refused}

    def make_ledger(self) -> Any:
        return MemoryLedger(clock=lambda: EPOCH + self.now, lease_seconds=self.policy.lease)

    # the schedule

    def run(self) -> list[str]:
        for number in range(self.random.randint(1, 3)):
            self.at(self.random.uniform(0, 5), self.start, f"w{number}")
        self.drain()
        self.calm = True
        self.results.clear()
        self.start("last")
        self.drain()
        self.check()
        return self.broken

    def drain(self) -> None:
        steps, heap = 0, self.heap
        while heap:
            self.now, _, call, arguments = heapq.heappop(heap)
            call(*arguments)
            steps += 1
            if steps > 20_000:
                self.broken.append("endless: a slot never ends")
                self.heap.clear()

    def at(self, delay: float, call: Callable[..., None], *arguments: Any) -> None:
        self.order += 1
        heapq.heappush(self.heap, (self.now + delay, self.order, call, arguments))

    def start(self, holder: str) -> None:
        worker = Worker(f"{holder}.{self.order}", self.requests)
        latest = self.ledger.find([REQUESTS[n].request_sha256 for n in worker.requests])
        for number in worker.requests:
            stage = produce(
                REQUESTS[number],
                latest=latest.get(REQUESTS[number].request_sha256),
                run=RUN,
                policy=self.policy,
                clock=lambda: self.now,
                load_records=lambda _: (),
            )
            worker.open_slots += 1
            self.advance(Slot(worker, number, stage), None)

    def advance(self, slot: Slot, outcome: object) -> None:
        """Feed the outcome, and schedule the effect that the core asks for next."""
        if self.crashed(slot.worker):
            return
        try:
            effect = slot.stage.send(outcome)
        except StopIteration as stop:
            self.results[slot.request] = stop.value
            slot.worker.open_slots -= 1
            return
        delay = 0.0 if self.calm else self.random.expovariate(20.0)
        self.at(delay, self.perform, slot, effect)

    def perform(self, slot: Slot, effect: fx.Effect) -> None:
        worker = slot.worker
        if self.crashed(worker):
            return
        if self.now < worker.stopped_until:
            self.at(worker.stopped_until - self.now, self.perform, slot, effect)
            return
        if not self.calm and self.random.random() < self.weather.stop:
            worker.stopped_until = self.now + self.random.uniform(0, 2 * self.policy.lease)
            self.at(worker.stopped_until - self.now, self.perform, slot, effect)
            return
        delay, outcome = getattr(self, type(effect).__name__)(slot, effect)
        if self.crashed(worker):
            return
        self.at(delay, self.resume, slot, outcome)

    def resume(self, slot: Slot, outcome: object) -> None:
        if self.now < slot.worker.stopped_until:
            self.at(slot.worker.stopped_until - self.now, self.resume, slot, outcome)
            return
        self.advance(slot, outcome)

    def crashed(self, worker: Worker) -> bool:
        """Whether the worker is dead; perhaps kill it here, and start another one later."""
        if not worker.alive:
            return True
        if self.calm or self.crashes >= 6 or self.random.random() >= self.weather.crash:
            return False
        worker.alive = False
        self.crashes += 1
        for number in worker.requests:
            self.ledger.bury(f"{worker.holder}/{number}")
        self.at(self.random.uniform(0, 90), self.start, "again")
        return True

    # the effects

    def AwaitPermit(self, slot: Slot, effect: fx.AwaitPermit) -> tuple[float, None]:
        return 0.1, None

    def ClaimAttempt(self, slot: Slot, effect: fx.ClaimAttempt) -> tuple[float, object]:
        intent = INTENTS[slot.request]
        return 0.01, self.ledger.claim(intent, holder=slot.holder, after=effect.after)

    def RenewClaim(self, slot: Slot, effect: fx.RenewClaim) -> tuple[float, bool]:
        return 0.01, self.ledger.renew(effect.attempt, holder=slot.holder)

    def Send(self, slot: Slot, effect: fx.Send) -> tuple[float, object]:
        if self.now > effect.not_after:
            return 0.0, NeverSent("the claim is too old")
        self.expect_intent(slot, effect.attempt)
        chance, delay = self.random.random(), self.random.uniform(0.01, 2.0)
        if slot.request in self.bad:
            return delay, Refused(422, "no")
        if self.calm or chance < 0.70:
            charge = self.charge(slot.request, delay)
            return delay, Accepted(Prediction(id=charge.id, status=Status.STARTING))
        if chance < 0.85:  # accepted, and the reply is lost
            self.charge(slot.request, self.random.uniform(0.01, 15.0))
            return self.random.choice([delay, self.policy.send_timeout - 1.0]), Ambiguous(
                "reset after the request"
            )
        if chance < 0.92:
            return delay, Ambiguous("500 before it was accepted")
        return delay, self.random.choice([NeverSent("refused connection"), Throttled(1.0)])

    def charge(self, request: int, delay: float) -> Charge:
        created = self.now + delay
        end = Status.SUCCEEDED
        if not self.calm and self.random.random() < 0.03:
            end = self.random.choice([Status.FAILED, Status.CANCELED])
        charge = Charge(
            id=f"p{self.order}",
            request=request,
            created_at=created + self.skew,
            visible_at=created + self.random.uniform(0, self.weather.lateness),
            ends_at=created + self.random.uniform(0.5, 40.0),
            end=end,
        )
        self.at(delay, self.charges.append, charge)
        return charge

    def expect_intent(self, slot: Slot, attempt: Attempt) -> None:
        history = self.ledger.history(REQUESTS[slot.request].request_sha256)
        if not any(each.number == attempt.number for each in history):
            self.broken.append("I5: a POST without a durable intent")

    def WriteAccepted(self, slot: Slot, effect: fx.WriteAccepted) -> tuple[float, State]:
        reply = dump_reply(effect.prediction)
        identity = effect.prediction.id
        return 0.01, self.ledger.accept(effect.attempt, prediction_id=identity, reply=reply)

    def WriteFound(self, slot: Slot, effect: fx.WriteFound) -> tuple[float, bool]:
        ours = self.ledger.renew(effect.attempt, holder=slot.holder)
        if ours:
            identity = effect.prediction.id
            self.ledger.accept(effect.attempt, prediction_id=identity, reply="{}")
        return 0.01, ours

    def WriteSucceeded(self, slot: Slot, effect: fx.WriteSucceeded) -> tuple[float, bool]:
        return 0.01, self.ledger.succeed(effect.attempt, reply="{}")

    def Close(self, slot: Slot, effect: fx.Close) -> tuple[float, bool]:
        if effect.state is State.STORED and not self.stored[slot.request]:
            self.broken.append("I2: closed as stored without its image")
        return 0.01, self.ledger.close(
            effect.attempt,
            effect.state,
            holder=slot.holder,
            error=effect.error,
            retryable=effect.retryable,
            resolution=effect.resolution,
        )

    def ReadHistory(self, slot: Slot, effect: fx.ReadHistory) -> tuple[float, object]:
        return 0.01, self.ledger.history(REQUESTS[slot.request].request_sha256)

    def TakeResend(self, slot: Slot, effect: fx.TakeResend) -> tuple[float, bool]:
        return 0.0, True

    def FindInList(self, slot: Slot, effect: fx.FindInList) -> tuple[float, object]:
        if not self.weather.has_list:
            return 0.1, NoList()
        if not self.calm and self.random.random() < 0.1:
            return 0.1, ListFailed("503")
        since = self.window(effect.attempt) - EPOCH - 600.0
        for charge in self.charges:
            if (
                charge.request == slot.request
                and charge.visible_at <= self.now
                and charge.created_at >= since
                and not self.ledger.known_ids([charge.id])
            ):
                return 0.1, Found(Prediction(id=charge.id, status=Status.PROCESSING))
        return 0.1, Absent()

    def window(self, attempt: Attempt) -> float:
        return attempt.intent_at

    def AwaitPoll(self, slot: Slot, effect: fx.AwaitPoll) -> tuple[float, None]:
        return min(8.0, 0.5 + 0.3 * effect.elapsed), None

    def Poll(self, slot: Slot, effect: fx.Poll) -> tuple[float, object]:
        chance = 1.0 if self.calm else self.random.random()
        if chance < 0.05:
            return 0.1, PollFailed("502")
        if chance < 0.07:
            return 0.1, Gone("404 this once")
        charge = next(each for each in self.charges if each.id == effect.prediction_id)
        if self.now < charge.ends_at:
            return 0.1, Polled(Prediction(id=charge.id, status=Status.PROCESSING))
        outputs = (Output(0, "u"),) if charge.end is Status.SUCCEEDED else ()
        error = "code: PA" if charge.end is Status.FAILED else None
        return 0.1, Polled(
            Prediction(id=charge.id, status=charge.end, outputs=outputs, error=error)
        )

    def Cancel(self, slot: Slot, effect: fx.Cancel) -> tuple[float, object]:
        return self.Poll(slot, fx.Poll(effect.prediction_id))

    def StoreOutput(self, slot: Slot, effect: fx.StoreOutput) -> tuple[float, object]:
        if not self.calm and self.random.random() < 0.1:
            return 0.3, fx.NotStored("again", "cut")
        self.stored[slot.request] += 1
        return 0.3, fx.Stored(RECORD)

    def Sleep(self, slot: Slot, effect: fx.Sleep) -> tuple[float, None]:
        return max(effect.seconds, 0.001), None

    # the invariants

    def provable(self, attempt: Attempt) -> bool:
        """Whether the list could tell what became of an attempt when it was last claimed."""
        age = attempt.claimed_at - attempt.intent_at
        return self.weather.has_list and age + VISIBILITY < self.policy.list_reach

    def check(self) -> None:
        for number in self.requests:
            latest = self.ledger.find([REQUESTS[number].request_sha256])
            if not latest:
                self.broken.append("I1: the ledger knows nothing of a request")
                continue
            self.check_request(number, next(iter(latest.values())))
        if len(self.results) != len(self.requests):
            self.broken.append("the last run did not end every request")

    def check_request(self, number: int, latest: Attempt) -> None:
        good = [c for c in self.charges if c.request == number and c.end is Status.SUCCEEDED]
        if latest.state is State.HELD and not self.provable(latest):
            return
        if number in self.bad:
            if latest.state is not State.REFUSED or good:
                self.broken.append(f"refused request ended {latest.state}")
            return
        if self.weather.has_list or self.policy.unknown == "hold":
            if len(good) > 1:
                self.broken.append(f"paid {len(good)} times")
            if len(self.ledger.known_ids([charge.id for charge in good])) < len(good):
                self.broken.append("I4: a paid prediction is unknown to the ledger")
        if latest.state is not State.STORED:
            self.broken.append(f"ended {latest.state}")
        elif not self.stored[number]:
            self.broken.append("lost: stored in the ledger, not in the store")
