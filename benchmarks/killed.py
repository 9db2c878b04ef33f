"""Counts double payments where a job is killed half-way and started again: ours, a plain loop.

    python -m benchmarks.killed [--images 300]

Everybody asks for the same images at an emulated provider of their own, whose ledger says what was
paid. At half of the images the job's process is killed (SIGKILL), and started again as it was.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
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
    """Run one job, kill it half-way, run it again; print and return what the provider counted."""
    with (
        tempfile.TemporaryDirectory(prefix="killed-") as name,
        EmulatorServer(_PROVIDER) as provider,
    ):
        job = make(Path(name), provider.origin, images)
        process = _start(job, Path(name))
        deadline = time.monotonic() + _PATIENCE
        while job.stored() < images // 2:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{job.name}: ended before it could be killed")
            time.sleep(_LOOK_EVERY)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        paid = provider.usage(predictions=False).creates_accepted
        again = _start(job, Path(name)).wait(_PATIENCE)
        charged = provider.usage(predictions=False)
        twice = charged.creates_accepted - charged.distinct_inputs
        row = images, paid, charged.creates_accepted, twice, f"{twice / images:.0%}", job.stored()
    print(f"{job.name:<24}" + "".join(f"{each:>12}" for each in row), flush=True)
    if again:
        raise SystemExit(f"{job.name}: the second run ended with {again}")
    return job.name, {"asked": images, "twice": twice}


def _start(job: Job, folder: Path) -> "subprocess.Popen[bytes]":
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        job.command,
        cwd=folder,
        env={**os.environ, **job.environment, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.killed", description=__doc__)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    options = parser.parse_args()
    heads = ("asked", "paid then", "paid", "paid twice", "share", "stored")
    print(f"{'killed half-way':<24}" + "".join(f"{head:>12}" for head in heads), flush=True)
    figures = dict(compete(make, options.images) for make in (ours, official))
    if options.keep:
        save("killed", figures)


if __name__ == "__main__":
    main()
