"""Counts double payments where a job is killed half-way and started again: ours, a plain loop.

    python -m benchmarks.killed [--images 300]

Everybody asks for the same images at an emulated provider of their own, whose ledger says what was
paid. At half of the images the job's processes are killed (SIGKILL), and it is started again as it
was; when it has ended, it is started once more, and has nothing to do.
"""

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results import save
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer

_PROVIDER = EmulatorOptions(
    render="cheap", latency_median=0.7, creates_per_minute=None, calls_per_minute=None
)
_PATIENCE = 600.0  # s
_LOOK_EVERY = 0.02  # s
_MARK = "FLUX_BENCHMARK_JOB"
"""The variable by which the processes of a job are found, with its folder."""


@dataclass(frozen=True)
class Job:
    """A command that makes the images, and how many it has stored."""

    name: str
    command: list[str]
    environment: dict[str, str]
    stored: Callable[[], int]


def ours(folder: Path, origin: str, images: int) -> Job:
    """``flux-pipeline run``, as a user starts it."""
    (folder / "configs").mkdir()
    text = (
        f"model: lucataco/flux-schnell-lora\nprompts: {{ridge: {{prompt: a, takes: {images}}}}}\n"
    )
    (folder / "configs" / "ridge.yaml").write_text(text)
    return Job(
        "flux-pipeline run",
        [sys.executable, "-m", "flux_pipeline.cli", "run"],
        {
            "FLUX_PROVIDER": origin,
            "FLUX_API_KEY": "benchmark",
            "FLUX_RATE": "60000",
            "FLUX_CONCURRENCY": "32",
        },
        lambda: len(list((folder / "data" / "store" / "images").rglob("*.webp"))),
    )


def official(folder: Path, origin: str, images: int) -> Job:
    """A loop over the official client in 32 threads, which skips what is stored."""
    return Job(
        "replicate, 32 threads",
        [sys.executable, "-m", "benchmarks.replicate_loop", origin, str(folder), str(images)],
        {},
        lambda: len(list(folder.glob("*.webp"))),
    )


def compete(make: Callable[[Path, str, int], Job], images: int) -> tuple[str, dict[str, int]]:
    """Run one job, kill it half-way, run it twice; print and return what the provider counted.

    Raises:
        JobError: It ended before it could be killed, or it failed when it was run again.
    """
    with (
        tempfile.TemporaryDirectory(prefix="killed-", ignore_cleanup_errors=True) as name,
        EmulatorServer(_PROVIDER) as provider,
    ):
        folder = Path(name)
        job = make(folder, provider.origin, images)
        try:
            _kill_half_way(job, folder, images)
            paid = provider.usage(predictions=False).creates_accepted
            _run(job, folder)
            charged = provider.usage(predictions=False)
            twice = charged.creates_accepted - charged.distinct_inputs
            cpu = _run(job, folder)
            again = provider.usage(predictions=False).creates_accepted - charged.creates_accepted
        finally:
            _kill_all(folder)
        row = images, paid, charged.creates_accepted, twice, f"{twice / images:.0%}", job.stored()
    shown = *row, again, f"{1000 * cpu / images:.1f}"
    print(f"{job.name:<24}" + "".join(f"{each:>12}" for each in shown), flush=True)
    figures = {"asked": images, "twice": twice, "stored": row[-1], "paid unchanged": again}
    return job.name, {**figures, "CPU ms unchanged": round(1000 * cpu / images)}


def print_heads() -> None:
    """The heads of what ``compete`` prints."""
    heads = ("asked", "paid then", "paid", "paid twice", "share", "stored", "unchanged", "CPU ms")
    print(f"{'killed half-way':<24}" + "".join(f"{head:>12}" for head in heads), flush=True)


class JobError(Exception):
    """A job could not be measured."""


def _kill_half_way(job: Job, folder: Path, images: int) -> None:
    process = _start(job, folder)
    deadline = time.monotonic() + _PATIENCE
    while job.stored() < images // 2:
        if process.poll() is not None or time.monotonic() > deadline:
            raise JobError(f"{job.name}: ended before it could be killed: {_last_line(folder)}")
        time.sleep(_LOOK_EVERY)
    _kill_all(folder)
    process.wait()


def _run(job: Job, folder: Path) -> float:
    """Run the job to its end; the CPU of all its processes that it waits for, s."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = _start(job, folder)
    try:
        code = process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        raise JobError(f"{job.name}: did not end within {_PATIENCE:.0f} s") from None
    finally:
        _kill_all(folder)  # what it left running, such as a server
    if code:
        raise JobError(f"{job.name}: ended with {code}: {_last_line(folder)}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _start(job: Job, folder: Path) -> "subprocess.Popen[bytes]":
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            job.command,
            cwd=folder,
            env={**os.environ, **job.environment, "PYTHONPATH": path, _MARK: str(folder)},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _kill_all(folder: Path) -> None:
    """Kill what a job of this folder has started, also what went into a session of its own."""
    for process in _started(folder):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _started(folder: Path) -> Iterator[int]:
    mark = f"{_MARK}={folder}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # another user's, or ended
            if mark in path.read_bytes().split(b"\0"):
                yield int(path.parent.name)


def _last_line(folder: Path) -> str:
    lines = (folder / "log").read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.killed", description=__doc__)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    options = parser.parse_args()
    print_heads()
    figures = dict(compete(make, options.images) for make in (ours, official))
    if options.keep:
        save("killed", figures)


if __name__ == "__main__":
    main()
