"""The long runs: thousands of predictions, faulty calls, and workers that are killed or stopped.

`make torture` runs them at full length and prints a table; TORTURE_SCALE=0.1 makes all of them a
tenth as long. A short form of each runs in `make test`.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flux_pipeline.audit.rescue import rescue
from flux_pipeline.ledger.base import State
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.produce.spool import Spool
from tests.produce.pipeline import make_requests
from tests.reliability.accidents import accident_scene, meet_accidents, run_mended
from tests.reliability.long_run import (
    A_FIFTH,
    CALM_CREATES,
    Books,
    Load,
    Scene,
    disturb,
    kill,
    open_producer,
    quick_policy,
    read_books,
    scene,
    stop,
    terminate,
    with_policy,
    work,
)

SCALE = float(os.environ.get("TORTURE_SCALE", "1"))
Say = Callable[..., None]


def long(predictions: int, disturbances: int, **options: object) -> Load:
    return Load(max(round(predictions * SCALE), 40), max(round(disturbances * SCALE), 1), **options)  # type: ignore[arg-type]


def short(predictions: int, disturbances: int, **options: object) -> Load:
    quick = {
        "concurrency": 4,
        "list_delay": 0.2,
        "policy": quick_policy(visibility=1.0, expected_seconds=0.1),
        "seconds": (0.2, 0.6),
    }
    return Load(predictions, disturbances, **{**quick, **options})  # type: ignore[arg-type]


def lengths(short_form: Load, long_form: Load) -> pytest.MarkDecorator:
    both = [
        pytest.param(short_form, id="short"),
        pytest.param(long_form, id="long", marks=pytest.mark.torture),
    ]
    return pytest.mark.parametrize("load", both)


@lengths(short(40, 3), long(10_000, 100))
def test_killed_workers_lose_nothing_and_pay_nothing_twice(
    load: Load, tmp_path: Path, say: Say
) -> None:
    with scene(tmp_path, load) as here:
        disturb(here, kill)
        books = read_books(here)
    say_books(say, "SIGKILL, list 10 s late", here, books)

    assert (books.created, books.images) == (load.predictions, load.predictions)
    assert (books.paid_twice, books.held, books.states[State.DUPLICATE]) == (0, 0, 0)


NO_LIST = {"has_list": False, "faults": CALM_CREATES, "concurrency": 8}


@lengths(short(40, 2, **NO_LIST), long(1_500, 40, **NO_LIST))
def test_without_a_list_what_may_be_paid_twice_is_bounded_and_reported(
    load: Load, tmp_path: Path, say: Say
) -> None:
    with scene(tmp_path, load) as here:
        disturb(here, kill)
        books = read_books(here)
    say_books(say, "SIGKILL, no list, resend", here, books)

    assert books.images + books.held == load.predictions
    assert books.paid_twice <= books.resent
    assert books.resent <= here.started * max(5, load.predictions // 100)


@lengths(
    with_policy(short(40, 2, **NO_LIST), unknown="hold"),
    with_policy(long(1_500, 40, **NO_LIST), unknown="hold"),
)
def test_without_a_list_hold_pays_nothing_twice(load: Load, tmp_path: Path, say: Say) -> None:
    with scene(tmp_path, load) as here:
        disturb(here, kill)
        books = read_books(here)
    say_books(say, "SIGKILL, no list, hold", here, books)

    assert books.images + books.held == load.predictions
    assert (books.paid_twice, books.resent) == (0, 0)


DRAINED = {"has_list": False, "faults": CALM_CREATES, "workers": 1}


@lengths(
    short(40, 2, **DRAINED),
    long(1_500, 200, drain_limit=30.0, **DRAINED, seconds=(0.3, 1.5)),
)
def test_a_drain_leaves_nothing_whose_fate_is_unknown(load: Load, tmp_path: Path, say: Say) -> None:
    with scene(tmp_path, load) as here:
        disturb(here, terminate)
        books = read_books(here)
    say_books(say, "SIGTERM, no list", here, books, slowest_exit=f"{here.slowest_exit:.1f} s")

    assert (books.created, books.images) == (load.predictions, load.predictions)
    assert (books.paid_twice, books.held, books.resent) == (0, 0, 0)
    assert here.slowest_exit < load.drain_limit


STOPPED = {"faults": CALM_CREATES, "concurrency": 3, "latency": 0.5, "seconds": (0.1, 0.5)}
# A claim that had grown too old is no reason to give up: the disk may be slow, or we were stopped.
PERSISTENT = {"never_sent_tries": 1_000, "backoff_limit": 1.0}


# The list is believed later than any stop ends, which may fall between the last look at the clock
# and the write of a POST.
@lengths(
    with_policy(short(50, 2, **STOPPED), lease=1.0, send_timeout=0.5, visibility=2.5, **PERSISTENT),
    with_policy(long(800, 100, **STOPPED), lease=3.0, send_timeout=1.5, **PERSISTENT),
)
def test_workers_that_are_stopped_beyond_their_lease_pay_nothing_twice(
    load: Load, tmp_path: Path, say: Say
) -> None:
    with scene(tmp_path, load) as here:
        disturb(here, stop)
        books = read_books(here)
    say_books(say, "SIGSTOP to twice the lease", here, books)

    assert (books.created, books.images) == (load.predictions, load.predictions)
    assert (books.paid_twice, books.held, books.states[State.DUPLICATE]) == (0, 0, 0)


DEAD = {"workers": 1, "latency": 0.5, "faults": CALM_CREATES}


@lengths(short(24, 2, **DEAD), long(100, 20, **DEAD))
def test_what_a_dead_machine_left_is_rescued_without_a_run(
    load: Load, tmp_path: Path, say: Say
) -> None:
    accepted = 0
    for number in range(load.disturbances):
        folder = tmp_path / str(number)
        folder.mkdir()
        with scene(folder, load) as here:
            worker = here.start(work)
            while accepted_by(here) < load.predictions // 4:
                worker.join(0.02)
                assert worker.exitcode is None
            kill(here, worker)
            with open_producer(folder, here.server.origin, load) as producer:
                done = rescue(producer, run_id="rescue", older_than=0.0)
            books = read_books(here)
            created = accepted_by(here)
        assert done.complete
        assert books.images == created >= load.predictions // 4
        assert books.paid_twice == 0
        accepted += created
    say(
        "machine dead, then rescue",
        predictions=accepted,
        disturbed=load.disturbances,
        stored=accepted,
    )


def accidental(seconds: float) -> dict[str, object]:
    """Answers that pass after so many seconds, and weights that are missing at first."""
    lasting = {"polls_404": seconds, "downloads_404": seconds, "weights_missing": 3 * seconds}
    return {"faults": {**A_FIFTH, "lasting": lasting}, "latency": seconds}


# What is mended in the end must be waited for then, and asked for as often as it failed before.
MENDED = {"gone_patience": 30.0, "failed_tries": 50}


@lengths(
    with_policy(short(40, 8, concurrency=8, **accidental(0.2)), **MENDED),
    with_policy(long(1_500, 30, **accidental(1.0)), **MENDED),
)
def test_after_any_accidents_one_run_with_everything_mended_stores_all(
    load: Load, tmp_path: Path, say: Say
) -> None:
    with accident_scene(tmp_path, load) as here:
        met = meet_accidents(here)
        run_mended(here)
        books = read_books(here)
    say_books(say, "accidents, then all mended", here, books)

    assert met.total() == load.disturbances
    assert (books.images, books.created) == (load.predictions, load.predictions + books.failed)
    assert (books.paid_twice, books.held, books.states[State.EXPIRED]) == (0, 0, 0)
    assert len(Spool(tmp_path / "spool")) == 0


FEW = 20


@lengths(short(FEW, 0, faults={}), long(1_000, 0, faults={}))
def test_what_is_finished_is_free_however_often_it_is_asked_for(
    load: Load, tmp_path: Path, say: Say
) -> None:
    requests, seconds = make_requests(load.predictions), []
    times = 10 if load.predictions > FEW else 3
    with scene(tmp_path, load) as here:
        disturb(here, kill)
        before = snapshot(here)
        with open_producer(tmp_path, here.server.origin, load) as producer:
            for number in range(times):
                begun = time.perf_counter()
                with producer.stream(
                    [("all", requests)], run=RunContext(f"again-{number}")
                ) as reports:
                    assert sum(report.tally.unchanged for report in reports) == load.predictions
                seconds.append(time.perf_counter() - begun)
        assert snapshot(here) == before
    slowest = f"{max(seconds):.2f} s"
    say(f"finished, asked for {times} times", predictions=load.predictions, slowest_rerun=slowest)


@pytest.mark.torture
def test_memory_does_not_grow_with_the_number_of_predictions(tmp_path: Path, say: Say) -> None:
    peaks = []
    for name, count in (("few", 200), ("many", max(round(10_000 * SCALE), 400))):
        folder = tmp_path / name
        folder.mkdir()
        with scene(folder, Load(count, 0, faults={}, workers=1)) as here:
            disturb(here, kill)
            read_books(here)
        peaks += here.peaks
    few, many = (f"{peak / 1024:.0f} MiB" for peak in peaks)
    say("memory", predictions=count, at_200=few, at_the_end=many)

    assert peaks[1] <= 1.2 * peaks[0]


def accepted_by(here: Scene) -> int:
    return here.server.usage(predictions=False).creates_accepted


def snapshot(here: Scene) -> tuple[dict[str, int], dict[str, int]]:
    """What the provider was asked, and which files there are, with the time of their last write."""
    files = (path for path in (here.folder / "store").rglob("*") if path.is_file())
    written = {str(path): path.stat().st_mtime_ns for path in files}
    return here.server.usage(predictions=False).requests_by_route, written


def say_books(say: Say, row: str, here: Scene, books: Books, **more: object) -> None:
    say(
        row,
        predictions=here.load.predictions,
        disturbed=here.disturbed,
        faults=books.faults,
        stored=books.images,
        lost=here.load.predictions - books.images - books.held,
        paid_twice=books.paid_twice,
        resent=books.resent,
        held=books.held,
        **more,
    )
