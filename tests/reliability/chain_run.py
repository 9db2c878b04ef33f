"""A chain of three steps under kills: drawn, edited, and seen in takes by a model without a seed.

A worker does what a Dagster run of the chain does: set after set, each with the sets that follow
it. Afterwards provider, ledger, store and lineage are compared, and for each prediction the bytes
that it was made from with the stored file of its source.
"""

import hashlib
import random
import signal
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import serve
from flux_pipeline.emulator.usage import read_usage
from flux_pipeline.ledger.base import Attempt, State
from flux_pipeline.lineage.parts import list_parts, read_parts
from flux_pipeline.lineage.record import records_from_json
from flux_pipeline.lineage.schema import batch_to_records
from flux_pipeline.produce.budgets import Limits
from flux_pipeline.produce.followers import Follower, Followers
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.produce.producer import Producer
from flux_pipeline.produce.source_pictures import LedgerPictures
from flux_pipeline.prompts import PromptSet, in_order, load_prompt_sets
from flux_pipeline.request import Request
from tests.reliability.long_run import A_FIFTH, INTERRUPTED, Load, Workers, open_producer
from tests.servers.fork_server import context
from tests.servers.picture_provider import PictureProvider
from tests.servers.ports import free_port

TAKES = 2
"""Of each picture in the last step."""
STEPS = 2 + TAKES
"""Predictions for each picture that is drawn."""
CHAIN_FAULTS: Mapping[str, Any] = {
    **A_FIFTH,
    "upload": {
        "reset_before": 0.06,
        "server_error_before": 0.04,
        "reset_after": 0.06,
        "server_error_after": 0.04,
        "truncated_after": 0.02,
    },
    # The address ends between the create and the start: that prediction fails at the provider.
    "input": {"expired": 0.04, "server_error": 0.01},
}
_RUNS = 30
"""Of one worker at most: what has failed at the provider is asked for again by the next run."""


class Made(NamedTuple):
    """One prediction that a provider has accepted, by its own books."""

    id: str
    model: str
    input: Mapping[str, Any]
    failed: bool
    pictures: tuple[str, ...]
    """SHA-256 of what it has fetched, in order."""


class ChainProvider(Protocol):
    """A provider that keeps books of what it was asked for and of what it has fetched."""

    @property
    def origin(self) -> str:
        """Such as ``http://127.0.0.1:43210``."""
        ...

    def made(self) -> Sequence[Made]:
        """Every prediction that was accepted."""
        ...

    def uploads(self) -> Collection[str]:
        """SHA-256 of every file that was uploaded."""
        ...

    def faults(self) -> int:
        """How many calls it has answered wrongly on purpose."""
        ...


@dataclass
class EmulatorProcess:
    """The emulator in a process of its own, whose books are read from its folder."""

    folder: Path
    origin: str

    def made(self) -> Sequence[Made]:
        return [
            Made(
                each.id,
                each.model,
                each.input,
                each.status == "failed",
                tuple(picture.sha256 for picture in each.pictures),
            )
            for each in read_usage(self.folder).predictions
        ]

    def uploads(self) -> Collection[str]:
        return set(read_usage(self.folder, predictions=False).uploads)

    def faults(self) -> int:
        return sum(read_usage(self.folder, predictions=False).faults.values())


@contextmanager
def emulator_process(folder: Path, load: Load) -> Iterator[EmulatorProcess]:
    options = EmulatorOptions(
        latency_median=load.latency,
        render="cheap",
        creates_per_minute=None,
        calls_per_minute=None,
        list_enabled=load.has_list,
        list_delay_seconds=load.list_delay,
        retention_seconds=1e9,
    )
    plan = FaultPlan.model_validate(load.faults)
    port = free_port()
    process = context().Process(target=serve, args=("127.0.0.1", port, folder, options, plan))
    process.start()
    try:
        yield EmulatorProcess(folder, f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.join()


@dataclass
class OtherProvider:
    """A provider that shares no code with the emulator."""

    served: PictureProvider

    @property
    def origin(self) -> str:
        return self.served.origin

    def made(self) -> Sequence[Made]:
        return [
            Made(
                each["id"],
                each["model"],
                each["input"],
                each["status"] == "failed",
                each["_"]["fetched"],
            )
            for each in self.served.predictions
        ]

    def uploads(self) -> Collection[str]:
        return {sha256(content) for content, _ in self.served.files.values()}

    def faults(self) -> int:
        return self.served.faults


@dataclass
class Chain:
    """The files of the chain, and every request that they have ever asked for."""

    scene: Workers
    provider: ChainProvider
    changed: set[int] = field(default_factory=set)
    """Numbers of the pictures whose prompt was edited."""
    asked: dict[str, Request] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.write()

    @property
    def configs(self) -> Path:
        return self.scene.folder / "configs"

    @property
    def drawn(self) -> int:
        return self.scene.load.predictions

    def write(self) -> None:
        """Write the three files: 20 shards, so that a partition ends now and then."""
        self.configs.mkdir(exist_ok=True)
        prompts = "".join(
            f"  p{n}: {'a ruin' if n in self.changed else 'a castle'} on hill {n}\n"
            for n in range(self.drawn)
        )
        head = "partitions: {by: shard, count: 20}\n"
        draw = f"model: black-forest-labs/flux-schnell\n{head}prompts:\n{prompts}"
        (self.configs / "draw.yaml").write_text(draw)
        edit = 'edit: {each: draw, prompt: "{prompt} at night", input_image: "{image}"}'
        (self.configs / "edit.yaml").write_text(
            f"model: black-forest-labs/flux-kontext-pro\nprompts:\n  {edit}\n"
        )
        take = (
            f'take: {{each: edit, prompt: "{{prompt}}, in oil", image_input: ["{{image}}"],'
            f" takes: {TAKES}}}"
        )
        (self.configs / "take.yaml").write_text(f"model: google/nano-banana\nprompts:\n  {take}\n")

    def change(self, numbers: Collection[int]) -> None:
        """Edit the prompts of these pictures."""
        self.note_asked()
        self.changed.update(numbers)
        self.write()

    def note_asked(self) -> None:
        """Keep every request that the files ask for, with the pictures as they are by now."""
        with self.scene.ledger() as ledger:
            for prompt_set in load_chain(self.configs):
                for request in prompt_set.requests(pictures=LedgerPictures(ledger)):
                    self.asked[request.request_sha256] = request


def load_chain(configs: Path) -> Sequence[PromptSet]:
    return in_order(load_prompt_sets(configs))


def work_on_chain(folder: Path, origin: str, load: Load, run_id: str) -> None:
    """One worker: the whole chain from wherever it stands, run after run until all is over."""
    # As Dagster has it: both signals raise in the main thread.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Workers differ, and settle what the others have sent: most upload, some write small pictures
    # into the input; each takes one of the create routes.
    dice = random.Random(run_id)  # noqa: S311
    input_files: Any = dice.choice(["upload", "upload", "auto"])
    route: Any = dice.choice(["predictions", "models"])
    try:
        sets = load_chain(folder / "configs")
        with open_producer(folder, origin, load, input_files=input_files, route=route) as producer:
            done = any(make_chain(producer, sets, f"{run_id}-{number}") for number in range(_RUNS))
        sys.exit(0 if done else 1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def make_chain(producer: Producer, sets: Sequence[PromptSet], run_id: str) -> bool:
    """One run of the chain; returns whether all of it is stored or held."""
    over = True
    for number, prompt_set in enumerate(sets):
        partitions: dict[str, list[Request]] = {key: [] for key in prompt_set.partition_keys()}
        for request in prompt_set.requests(pictures=LedgerPictures(producer.ledger)):
            partitions[request.source.partition].append(request)
        with producer.stream(
            partitions.items(),
            run=RunContext(run_id, f"{prompt_set.name}/images"),
            followers=Followers(
                [
                    Follower(each, RunContext(run_id, f"{each.name}/images"), Limits())
                    for each in sets[number + 1 :]
                ]
            ),
        ) as reports:
            for report in reports:
                tally = report.tally
                over &= tally.asked == tally.stored + tally.unchanged + tally.held
    return over


@dataclass(frozen=True)
class ChainBooks:
    """Provider, ledger, store and lineage of a chain, counted."""

    accepted: int
    failed: int
    """Predictions that failed at the provider, and were asked for again by right."""
    stored: int
    paid_twice: int
    unknown: int
    """Predictions that no attempt knows."""
    wrong_bytes: int
    """Predictions that were made from other bytes than the stored file of their source."""
    wrong_uploads: int
    """Uploaded files that are no stored picture's."""
    unasked: int
    """Requests that were sent although no file asks for them."""
    held: int
    faults: int


def read_chain_books(chain: Chain) -> ChainBooks:
    """Compare all four. What is wrong in itself is an error here; the rest is counted."""
    scene, store = chain.scene, chain.scene.store
    chain.note_asked()
    with scene.ledger() as ledger:
        attempts = list(ledger.attempts())
        assert ledger.unfinished() == []
    stored = [attempt for attempt in attempts if attempt.state is State.STORED]
    records = [record for each in stored for record in records_from_json(each.images)]
    files = {key: store.get(key) for key in store.list("images/")}
    hashes = {f"{store.uri}/{key}": sha256(body) for key, body in files.items()}
    # What the records say of the files, and the lineage of the records.
    assert {record.uri: record.file_sha256 for record in records} == hashes
    rows = {
        (record.uri, record.file_sha256, record.prediction_id)
        for _, part in read_parts(store, list_parts(store))
        for record in batch_to_records(part)
        if record.uri
    }
    assert rows == {(each.uri, each.file_sha256, each.prediction_id) for each in records}
    made = chain.provider.made()
    good = {each.id: each for each in made if not each.failed}
    ours = {attempt.prediction_id for attempt in attempts} - {None}
    assert ours <= {each.id for each in made}
    return ChainBooks(
        accepted=len(made),
        failed=len(made) - len(good),
        stored=len(files),
        paid_twice=_paid_twice(attempts, good.values(), chain.asked),
        unknown=len(good.keys() - ours),
        wrong_bytes=sum(
            _is_made_from_others(good[str(attempt.prediction_id)], chain.asked, attempt, hashes)
            for attempt in stored
        ),
        wrong_uploads=len(set(chain.provider.uploads()) - set(hashes.values())),
        unasked=len({each.request_sha256 for each in attempts} - chain.asked.keys()),
        held=sum(attempt.state is State.HELD for attempt in attempts),
        faults=chain.provider.faults(),
    )


def _paid_twice(
    attempts: Sequence[Attempt], good: Collection[Made], asked: Mapping[str, Request]
) -> int:
    """Good predictions beyond those asked for, by model, prompt and what they were made from."""
    wanted: Counter[tuple[object, ...]] = Counter()
    for sha in {attempt.request_sha256 for attempt in attempts}:
        request = asked[sha]
        pictures = tuple(picture.sha256 for picture in request.pictures)
        wanted[request.model, request.input["prompt"], pictures] += 1
    had: Counter[tuple[object, ...]] = Counter(
        (each.model, each.input["prompt"], each.pictures) for each in good
    )
    return (had - wanted).total()


def _is_made_from_others(
    made: Made, asked: Mapping[str, Request], attempt: Attempt, hashes: Mapping[str, str]
) -> bool:
    request = asked[attempt.request_sha256]
    sources = tuple(hashes.get(picture.uri, "") for picture in request.pictures)
    return made.pictures != sources or made.model != request.model


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
