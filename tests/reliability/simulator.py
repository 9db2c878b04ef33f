"""A seeded simulator of the core: virtual time, 1-3 workers, crashes around every effect.

It runs the real ``produce.core`` against a provider that loses replies, shows new predictions late
and counts what it charges, and against the in-memory ledger that passes the ledger's contract.
In some schedules the requests are takes of one input without a seed, which the provider's list
can't tell apart. In some there are ``Accidents`` besides, which pass or which a person mends: then
one run with everything mended must store all that can still be had, without paying for it twice.
A schedule is a pure function of its seed, so a failure is repeated by its number.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, ClassVar

from flux_pipeline.ledger.base import Adoption, Attempt, Intent, State
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
    Rejected,
    Stopped,
    Throttled,
)
from flux_pipeline.prediction import Output, Prediction, Status
from flux_pipeline.produce import effects as fx
from flux_pipeline.produce.core import produce
from flux_pipeline.produce.policy import Policy, RunContext
from flux_pipeline.produce.report import Result, Stop
from flux_pipeline.request import Request, Source
from tests.ledger.memory import MemoryLedger

LEASE = 120.0
VISIBILITY = 30.0
RUN = RunContext("run")
EPOCH = 1_700_000_000.0
STARTS_WITHIN = 90.0
"""s; for so long an address must be good that is sent."""
LIFETIME = 3600.0
"""s from the end of a prediction until its outputs are deleted."""
CRASHES = 6
OUT_OF_MEMORY = "CUDA out of memory"
TOO_LONG = "Input validation failed: the prompt is too long"


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
SHARED = "5" * 64
TAKES = [replace(r, input={"prompt": "p"}, seed_input="") for r in REQUESTS]
"""The same requests of a model without a seed."""
TAKE_INTENTS = [replace(intent, input_sha256=SHARED) for intent in INTENTS]
OUTSIDER = -1
"""Whose prediction of the same input belongs to no request: somebody tried the model by hand."""
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
    error: str | None = None
    hidden_until: float = 0.0
    """Before, a poll answers 404."""
    served_from: float = 0.0
    """Before, its output answers 404."""

    @property
    def dies_at(self) -> float:
        return self.ends_at + LIFETIME


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture at the provider; ``picture`` is the request that it is made for."""

    picture: int
    ends_at: float


@dataclass(slots=True)
class Worker:
    holder: str
    requests: Sequence[int]
    wrong_host: bool = False
    """Its settings refuse the host of the outputs."""
    wrong_address: bool = False
    """Its provider's address has a wrong prefix: everything answers 404."""
    alive: bool = True
    stopped: Stopped | None = None
    """Why it creates nothing more, as ``produce.brake`` has it."""
    stopped_until: float = 0.0
    open_slots: int = 0
    accepted: int = 0
    saw_store_fail: bool = False


@dataclass(slots=True)
class Slot:
    worker: Worker
    request: int
    stage: Any
    prepared: Upload | None = None
    """The address that its picture has in the input that is sent next."""

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
    accidents: float = 0.25
    """Share of the schedules that have any."""
    seedless: float = 0.25
    """Share of the schedules whose requests are takes of one input."""
    lost: float = 0.15
    """Share of the creates that are accepted and whose answer is lost."""
    pictures: float = 0.3
    """Share of the schedules whose requests have pictures."""
    reading: float = 5.0
    """At most that long the list of a shared input is read."""


@dataclass(slots=True)
class Accidents:
    """What goes wrong in one schedule until somebody mends it, or it passes; times in s."""

    wrong_host_until: float = 0.0
    """Workers that start before may have the wrong setting."""
    wrong_address_until: float = 0.0
    store_is_down: tuple[float, float] = (0.0, 0.0)
    """From, until."""
    hidden_for: float = 0.0
    """At most that long polls of a new prediction answer 404."""
    served_late: float = 0.0
    """At most that long after its end an output answers 404."""
    out_of_memory: float = 0.0
    """Share of the predictions that fail so."""
    backup_at: float | None = None
    """When a backup of the ledger is made, which is restored before the last run."""
    pause: float = 0.0
    """How long nothing runs before the last run."""


def draw_accidents(random: Random) -> Accidents:
    """Each is in a part of these schedules, so that they also meet."""

    def perhaps(most: float, chance: float = 0.35) -> float:
        return random.uniform(0.0, most) if random.random() < chance else 0.0

    down = perhaps(60.0)
    return Accidents(
        wrong_host_until=perhaps(120.0),
        wrong_address_until=perhaps(120.0),
        store_is_down=(down, down + random.uniform(5.0, 400.0)) if down else (0.0, 0.0),
        hidden_for=perhaps(300.0),
        served_late=perhaps(300.0),
        out_of_memory=perhaps(0.8),
        backup_at=random.uniform(0.0, 100.0) if random.random() < 0.2 else None,
        pause=random.choice([0.0, 0.0, 0.0, 0.0, 2.5 * LIFETIME]),
    )


@dataclass
class World:
    """One schedule. ``run`` returns the invariants that are broken."""

    oldest_first: ClassVar[bool] = True
    """Whether a take adopts the oldest prediction of its input."""

    seed: int
    weather: Weather = field(default_factory=Weather)
    policy: Policy = field(
        default_factory=lambda: Policy(
            lease=LEASE, visibility=VISIBILITY, busy_interval=20.0, failed_tries=2
        )
    )

    def __post_init__(self) -> None:
        self.random = Random(self.seed)  # noqa: S311  a schedule, not a secret
        self.now = 0.0
        self.order = 0
        self.heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.ledger = self.make_ledger()
        self.charges: list[Charge] = []
        self.stored: Counter[int] = Counter()
        self.objects: dict[int, str] = {}
        """In the store: the prediction of each request's image."""
        self.spool: set[str] = set()
        """Predictions whose output was fetched while the store failed."""
        self.backup: Any = None
        self.paid_before: Counter[int] = Counter()
        """Predictions of the requests that were stored when the ledger was restored."""
        self.created = 0
        """Predictions that the runs' results count."""
        self.results: dict[int, Result] = {}
        self.broken: list[str] = []
        self.calm = False
        self.crashes = 0
        self.overslept = False
        """Whether a worker was stopped for longer than its lease: two may count one prediction."""
        self.skew = self.random.uniform(-self.weather.skew, self.weather.skew)
        count = self.random.randint(1, len(REQUESTS))
        self.requests = range(count)
        self.pictures = self.seed % 100 < 100 * self.weather.pictures
        """Whether the requests have pictures, which are uploaded first."""
        self.uploads: list[Upload] = []
        self.bad = {n for n in self.requests if self.random.random() < self.weather.refused}
        self.too_long = {n for n in self.requests if self.random.random() < self.weather.refused}
        has_accidents = self.random.random() < self.weather.accidents
        self.accidents = draw_accidents(self.random) if has_accidents else Accidents()
        self.seedless = 0 < self.weather.seedless > self.random.random()
        if self.seedless:
            self.bad, self.too_long = set(), set()  # they have one input: all or none
            self.accidents.backup_at = None  # one is only used after reindex has entered all takes
            self.charges.append(self.make_outsider())
        self.mended_at = max(self.accidents.store_is_down)

    def make_outsider(self) -> Charge:
        """A prediction of the same input from before all intents."""
        return Charge("outsider", OUTSIDER, -1000.0, -990.0, -950.0, Status.SUCCEEDED)

    def request(self, number: int) -> Request:
        return TAKES[number] if self.seedless else REQUESTS[number]

    def make_ledger(self) -> Any:
        return MemoryLedger(clock=lambda: EPOCH + self.now, lease_seconds=self.policy.lease)

    # the schedule

    def run(self) -> list[str]:
        for number in range(self.random.randint(1, 3)):
            self.at(self.random.uniform(0, 5), self.start, f"w{number}")
        if self.accidents.backup_at is not None:
            self.at(self.accidents.backup_at, self.make_backup)
        self.drain()
        self.calm = True
        self.now = max(self.now, self.mended_at) + self.accidents.pause
        if self.backup is not None:
            self.restore_backup()
        self.run_last()
        if any(self.may_be_retried(number) for number in self.requests):
            self.run_last()  # it was still under way, and this run has seen it fail
        self.check()
        return self.broken

    def run_last(self) -> None:
        self.results.clear()
        self.start("last")
        self.drain()

    def may_be_retried(self, number: int) -> bool:
        sha = REQUESTS[number].request_sha256
        latest = self.ledger.find([sha]).get(sha)
        return latest is not None and latest.state is State.FAILED and latest.retryable

    def make_backup(self) -> None:
        self.backup = self.ledger.copy()

    def restore_backup(self) -> None:
        """Put the backup in place; a run stops at what is stored, and a person enters that."""
        self.ledger = self.backup
        self.paid_before = Counter(c.request for c in self.charges if c.request in self.objects)
        self.run_last()
        for number, prediction_id in self.objects.items():
            self.enter_stored(number, prediction_id)

    def enter_stored(self, number: int, prediction_id: str) -> None:
        """As ``flux-pipeline reindex`` does."""
        sha = REQUESTS[number].request_sha256
        latest = self.ledger.find([sha]).get(sha)
        if latest is not None and latest.state is State.STORED:
            return
        if latest is not None:
            self.ledger.bury(latest.holder)
        after = latest.number if latest is not None else 0
        claim = self.ledger.claim(INTENTS[number], holder="reindex", after=after)
        self.ledger.accept(claim.attempt, prediction_id=prediction_id, reply="{}")
        self.ledger.close(claim.attempt, State.STORED, holder="reindex")

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
        accidents = self.accidents
        worker = Worker(
            f"{holder}.{self.order}",
            self.requests,
            wrong_host=self.is_wrong(accidents.wrong_host_until),
            wrong_address=self.is_wrong(accidents.wrong_address_until),
        )
        latest = self.ledger.find([REQUESTS[n].request_sha256 for n in worker.requests])
        for number in worker.requests:
            stage = produce(
                self.request(number),
                latest=latest.get(REQUESTS[number].request_sha256),
                run=RUN,
                policy=self.policy,
                clock=lambda: self.now,
                load_records=lambda _: (),
            )
            worker.open_slots += 1
            self.advance(Slot(worker, number, stage), None)

    def is_wrong(self, until: float) -> bool:
        """Whether a worker that starts now has a wrong setting."""
        return not self.calm and self.now < until and self.random.random() < 0.7

    def advance(self, slot: Slot, outcome: object) -> None:
        """Feed the outcome, and schedule the effect that the core asks for next."""
        if self.crashed(slot.worker):
            return
        try:
            effect = slot.stage.send(outcome)
            if isinstance(effect, fx.PrepareInput) and not self.pictures:
                effect = slot.stage.send(None)
        except StopIteration as stop:
            self.results[slot.request] = stop.value
            self.created += stop.value.created
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
            self.overslept |= worker.stopped_until > self.now + self.policy.lease
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
        self.advance(slot, outcome() if callable(outcome) else outcome)

    def crashed(self, worker: Worker) -> bool:
        """Whether the worker is dead; perhaps kill it here, and start another one later."""
        if not worker.alive:
            return True
        if self.calm or self.crashes >= CRASHES or self.random.random() >= self.weather.crash:
            return False
        worker.alive = False
        self.crashes += 1
        for number in worker.requests:
            self.ledger.bury(f"{worker.holder}/{number}")
        self.at(self.random.uniform(0, 90), self.start, "again")
        return True

    # the effects

    def FindStored(self, slot: Slot, effect: fx.FindStored) -> tuple[float, Stopped | None]:
        worker = slot.worker
        if worker.stopped is not None:
            return 0.0, worker.stopped
        if self.store_is_down():
            self.stop_for_store(worker)
        elif slot.request in self.objects and not self.is_known_as_stored(slot.request):
            worker.stopped = Stopped(Stop.LEDGER, "the ledger has forgotten it")
        return 0.02, worker.stopped

    def is_known_as_stored(self, number: int) -> bool:
        sha = REQUESTS[number].request_sha256
        latest = self.ledger.find([sha]).get(sha)
        kept = (State.ACCEPTED, State.SUCCEEDED, State.STORED)
        return latest is not None and latest.state in kept

    def store_is_down(self) -> bool:
        begin, end = self.accidents.store_is_down
        return begin <= self.now < end

    def stop_for_store(self, worker: Worker) -> None:
        worker.saw_store_fail = True
        worker.stopped = Stopped(Stop.STORE, "the store is down")

    def PrepareInput(self, slot: Slot, effect: fx.PrepareInput) -> tuple[float, fx.NotReady | None]:
        """Upload the request's picture, whose address ends after a while."""
        slot.prepared = None
        if not self.calm and self.random.random() < 0.1:
            return 0.3, fx.NotReady("the upload was refused")
        address, fresh = self.address_of(slot.request), False
        if address is None:
            fresh = True
            address = Upload(slot.request, ends_at=self.now + self.random.uniform(100.0, 2000.0))
        if fresh:
            self.uploads.append(address)
        slot.prepared = address
        return 0.3, None

    def address_of(self, number: int) -> "Upload | None":
        """An upload of this request's picture that is good for long enough."""
        for upload in self.uploads:
            if upload.picture == number and upload.ends_at - STARTS_WITHIN > self.now:
                return upload
        return None

    def AwaitPermit(self, slot: Slot, effect: fx.AwaitPermit) -> tuple[float, Stopped | None]:
        return 0.1, slot.worker.stopped

    def ClaimAttempt(self, slot: Slot, effect: fx.ClaimAttempt) -> tuple[float, object]:
        intent = (TAKE_INTENTS if self.seedless else INTENTS)[slot.request]
        return 0.01, self.ledger.claim(intent, holder=slot.holder, after=effect.after)

    def RenewClaim(self, slot: Slot, effect: fx.RenewClaim) -> tuple[float, bool]:
        return 0.01, self.ledger.renew(effect.attempt, holder=slot.holder)

    def Send(self, slot: Slot, effect: fx.Send) -> tuple[float, object]:
        worker = slot.worker
        if self.now > effect.not_after:
            return 0.0, NeverSent("the claim is too old")
        if self.pictures:
            address, slot.prepared = slot.prepared, None
            if self.is_too_late(address):
                return 0.0, NeverSent("its picture's address ends too early")
            self.expect_address(slot, address)
        if worker.stopped is not None:
            return 0.0, worker.stopped
        self.expect_intent(slot, effect.attempt)
        if worker.saw_store_fail and self.store_is_down():
            self.broken.append("created what could not be stored")
        if worker.wrong_address:
            if not worker.accepted:
                worker.stopped = Stopped(Stop.REJECTED, "404")
            return 0.1, Rejected(404, "page not found")
        delay, outcome = self.answer_create(slot)
        worker.accepted += isinstance(outcome, Accepted)
        return delay, outcome

    def is_too_late(self, upload: "Upload | None") -> bool:
        return upload is None or upload.ends_at - STARTS_WITHIN / 3 <= self.now

    def expect_address(self, slot: Slot, upload: "Upload | None") -> None:
        """What is paid for is made from the right bytes, which can still be read when it starts."""
        if upload is None:
            self.broken.append("sent without its picture")
        elif upload.picture != slot.request:
            self.broken.append("made from the wrong bytes")
        elif upload.ends_at < self.now + STARTS_WITHIN / 3:
            self.broken.append("its picture's address ended before the start")

    def answer_create(self, slot: Slot) -> tuple[float, object]:
        chance, delay = self.random.random(), self.random.uniform(0.01, 2.0)
        if slot.request in self.bad:
            return delay, Refused(422, "no")
        answered = 0.85 - self.weather.lost
        if self.calm or chance < answered:
            charge = self.charge(slot.request, delay)
            return delay, Accepted(Prediction(id=charge.id, status=Status.STARTING))
        if chance < 0.85:  # accepted, and the reply is lost
            self.charge(slot.request, self.draw_late(15.0))
            return self.random.choice([delay, self.policy.send_timeout - 1.0]), Ambiguous(
                "reset after the request"
            )
        if chance < 0.92:
            return delay, Ambiguous("500 before it was accepted")
        return delay, self.random.choice([NeverSent("refused connection"), Throttled(1.0)])

    def charge(self, request: int, delay: float) -> Charge:
        created = self.now + delay
        ends_at = created + self.random.uniform(0.5, 40.0)
        end, error = self.draw_end(request)
        charge = Charge(
            id=f"p{self.order}",
            request=request,
            created_at=created + self.skew,
            visible_at=created + self.draw_late(self.weather.lateness),
            ends_at=ends_at,
            end=end,
            error=error,
        )
        accidents = self.accidents
        if not self.calm and (accidents.hidden_for or accidents.served_late):
            charge.hidden_until = created + self.random.uniform(0, accidents.hidden_for)
            charge.served_from = ends_at + self.random.uniform(0, accidents.served_late)
            self.mended_at = max(self.mended_at, charge.hidden_until, charge.served_from)
        self.at(delay, self.charges.append, charge)
        return charge

    def draw_late(self, most: float) -> float:
        """Takes of one input are as late as may be more often: they meet each other more often."""
        if self.seedless and self.random.random() < 0.5:
            return most
        return self.random.uniform(0.01, most)

    def draw_end(self, request: int) -> tuple[Status, str | None]:
        if request in self.too_long:
            return Status.FAILED, TOO_LONG
        if self.calm:
            return Status.SUCCEEDED, None
        chance = self.random.random()
        if chance < 0.015:
            return Status.FAILED, "code: PA"
        if chance < 0.03:
            return Status.CANCELED, None
        if self.accidents.out_of_memory and self.random.random() < self.accidents.out_of_memory:
            return Status.FAILED, OUT_OF_MEMORY
        return Status.SUCCEEDED, None

    def expect_intent(self, slot: Slot, attempt: Attempt) -> None:
        history = self.ledger.history(REQUESTS[slot.request].request_sha256)
        if not any(each.number == attempt.number for each in history):
            self.broken.append("I5: a POST without a durable intent")

    def WriteAccepted(self, slot: Slot, effect: fx.WriteAccepted) -> tuple[float, State]:
        reply = dump_reply(effect.prediction)
        identity = effect.prediction.id
        return 0.01, self.ledger.accept(effect.attempt, prediction_id=identity, reply=reply)

    def WriteFound(self, slot: Slot, effect: fx.WriteFound) -> tuple[float, Adoption]:
        identity = effect.prediction.id
        return 0.01, self.ledger.adopt(
            effect.attempt, holder=slot.holder, prediction_id=identity, reply="{}"
        )

    def WriteSucceeded(self, slot: Slot, effect: fx.WriteSucceeded) -> tuple[float, bool]:
        return 0.01, self.ledger.succeed(effect.attempt, reply="{}")

    def Close(self, slot: Slot, effect: fx.Close) -> tuple[float, bool]:
        if effect.state is State.STORED and not self.stored[slot.request]:
            self.broken.append("I2: closed as stored without its image")
        if effect.state is State.EXPIRED:
            self.expect_gone(slot, effect.attempt)
        return 0.01, self.ledger.close(
            effect.attempt,
            effect.state,
            holder=slot.holder,
            error=effect.error,
            retryable=effect.retryable,
            resolution=effect.resolution,
        )

    def expect_gone(self, slot: Slot, attempt: Attempt) -> None:
        (charge,) = [each for each in self.charges if each.id == attempt.prediction_id]
        if self.now < charge.dies_at:
            self.broken.append("closed as expired while its output lives")
        if charge.id in self.spool or self.objects.get(slot.request) == charge.id:
            self.broken.append("closed as expired although its image was fetched")

    def ReadHistory(self, slot: Slot, effect: fx.ReadHistory) -> tuple[float, object]:
        return 0.01, self.ledger.history(REQUESTS[slot.request].request_sha256)

    def TakeResend(self, slot: Slot, effect: fx.TakeResend) -> tuple[float, bool]:
        return 0.0, True

    def FindInList(self, slot: Slot, effect: fx.FindInList) -> tuple[float, object]:
        if not self.weather.has_list:
            return 0.1, NoList()
        if not self.calm and self.random.random() < 0.1:
            return 0.1, ListFailed("503")
        if self.seedless:
            return self.find_take(self.window(effect.attempt) - EPOCH - 10.0)
        since = self.window(effect.attempt) - EPOCH - 600.0
        for charge in self.charges:
            if (
                charge.request == slot.request
                and charge.visible_at <= self.now < charge.dies_at
                and charge.created_at >= since
                and not self.ledger.known_ids([charge.id])
            ):
                return 0.1, Found(Prediction(id=charge.id, status=Status.PROCESSING))
        return 0.1, Absent()

    def find_take(self, since: float) -> tuple[float, object]:
        """Read the list, which takes some time, for the oldest prediction that nobody holds."""
        shown = sorted(
            (each for each in self.charges if each.visible_at <= self.now < each.dies_at),
            key=lambda each: each.created_at,
            reverse=not self.oldest_first,
        )
        held = self.ledger.ids_of_input(SHARED)

        def find() -> Found | Absent:
            for charge in shown:
                if charge.created_at >= since and charge.id not in held:
                    return Found(Prediction(id=charge.id, status=Status.PROCESSING))
            return Absent()

        return self.random.uniform(0.1, self.weather.reading), find

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
        if slot.worker.wrong_address or self.now < charge.hidden_until:
            return 0.1, Gone("404 for a while")
        if self.now < charge.ends_at:
            return 0.1, Polled(Prediction(id=charge.id, status=Status.PROCESSING))
        is_gone = self.now >= charge.dies_at
        outputs = (Output(0, "u"),) if charge.end is Status.SUCCEEDED and not is_gone else ()
        return 0.1, Polled(
            Prediction(
                id=charge.id,
                status=charge.end,
                outputs=outputs,
                error=charge.error,
                data_removed=is_gone,
            )
        )

    def Cancel(self, slot: Slot, effect: fx.Cancel) -> tuple[float, object]:
        return self.Poll(slot, fx.Poll(effect.prediction_id))

    def StoreOutput(self, slot: Slot, effect: fx.StoreOutput) -> tuple[float, object]:
        charge = next(each for each in self.charges if each.id == effect.prediction.id)
        if charge.id not in self.spool:
            if slot.worker.wrong_host:
                return 0.0, fx.NotStored("refused", "not one of the hosts")
            if not charge.served_from <= self.now < charge.dies_at:
                return 0.1, fx.NotStored("gone", "answered 404")
            if not self.calm and self.random.random() < 0.1:
                return 0.3, fx.NotStored("again", "cut")
        if self.store_is_down():
            self.spool.add(charge.id)
            if effect.is_last_try("store"):
                self.stop_for_store(slot.worker)
            return 0.3, fx.NotStored("store", "down")
        self.spool.discard(charge.id)
        self.stored[slot.request] += 1
        self.objects.setdefault(slot.request, charge.id)
        return 0.3, fx.Stored(RECORD)

    def FindImage(self, slot: Slot, effect: fx.FindImage) -> tuple[float, object]:
        if self.store_is_down():
            return 0.1, fx.NotStored("store", "down")
        identity = effect.prediction.id or ""
        if identity in self.spool:
            self.spool.discard(identity)
            self.stored[slot.request] += 1
            self.objects.setdefault(slot.request, identity)
        if self.objects.get(slot.request) == identity:
            return 0.1, fx.Stored(RECORD)
        return 0.1, fx.NotStored("removed", "nothing is stored")

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
        self.check_sums()
        if self.seedless:
            self.check_takes()

    def check_sums(self) -> None:
        """Runs count what the provider charges, unless they die or can't know."""
        unknown = any(self.ledger.in_state(state) for state in (State.HELD, State.RESENT))
        if self.crashes or self.overslept or self.backup is not None or unknown:
            return
        paid = sum(each.request != OUTSIDER for each in self.charges)
        if self.created != paid:
            self.broken.append(f"the runs count {self.created} of {paid} predictions")

    def check_request(self, number: int, latest: Attempt) -> None:
        if latest.state is State.HELD and not self.provable(latest):
            return
        charges = [each for each in self.charges if each.request == number]
        if number in self.paid_before and len(charges) > self.paid_before[number]:
            self.broken.append("paid again although it was stored")
        is_certain = self.weather.has_list or self.policy.unknown == "hold"
        if self.backup is None and is_certain and not self.seedless:
            self.check_payments(number, charges)
        if not self.is_expected(number, latest):
            self.broken.append(f"ended {latest.state}")
        if latest.state is State.STORED and not self.stored[number]:
            self.broken.append("lost: stored in the ledger, not in the store")

    def is_expected(self, number: int, latest: Attempt) -> bool:
        """Whether a request may end so, once everything is mended."""
        if number in self.bad:
            return latest.state is State.REFUSED
        if number in self.too_long:
            return latest.state is State.FAILED and not latest.retryable
        if latest.state is State.FAILED:  # only when its tries are used up
            history = self.ledger.history(REQUESTS[number].request_sha256)
            failed = sum(each.state is State.FAILED for each in history)
            return failed >= self.policy.failed_tries and not latest.retryable
        return latest.state in (State.STORED, State.EXPIRED)  # the latter is judged when closed

    def check_takes(self) -> None:
        """Takes of one input: as many are paid as there are, and each has a picture of its own."""
        holders = Counter(
            identity
            for number in self.requests
            for identity in {
                each.prediction_id
                for each in self.ledger.history(REQUESTS[number].request_sha256)
                if each.prediction_id is not None
            }
        )
        if any(count > 1 for count in holders.values()):
            self.broken.append("one prediction is held by two takes")
        if "outsider" in holders:
            self.broken.append("a prediction from before the intent was adopted")
        images = list(self.objects.values())
        if len(set(images)) < len(images):
            self.broken.append("two takes have the same picture")
        if not self.weather.has_list and self.policy.unknown != "hold":
            return
        attempts = list(self.ledger.attempts())
        lost = (State.RESENT, State.DUPLICATE, State.HELD)
        reported = sum(each.state in lost and not self.provable(each) for each in attempts)
        good = [
            each.id
            for each in self.charges
            if each.end is Status.SUCCEEDED and each.request != OUTSIDER
        ]
        if len(good) > len(self.requests) + reported:
            self.broken.append(f"paid {len(good)} for {len(self.requests)} takes")
        if len(self.ledger.known_ids(good)) < len(good) - reported:
            self.broken.append("I4: a paid prediction is unknown to the ledger")

    def check_payments(self, number: int, charges: Sequence[Charge]) -> None:
        """Each image is paid once, but for what could not be proven, which is reported."""
        history = self.ledger.history(REQUESTS[number].request_sha256)
        reported = sum(
            each.state in (State.RESENT, State.DUPLICATE) and not self.provable(each)
            for each in history
        )
        good = [each for each in charges if each.end is Status.SUCCEEDED]
        if len(good) > 1 + reported:
            self.broken.append(f"paid {len(good)} times")
        if len(self.ledger.known_ids([each.id for each in good])) < len(good) - reported:
            self.broken.append("I4: a paid prediction is unknown to the ledger")
        out_of_memory = sum(each.error == OUT_OF_MEMORY for each in charges)
        if out_of_memory > self.policy.failed_tries + reported:
            self.broken.append(f"asked {out_of_memory} times for what always fails")
        too_long = sum(each.error == TOO_LONG for each in charges)
        if too_long > 1 + reported:
            self.broken.append(f"paid {too_long} times for an input that is wrong")
