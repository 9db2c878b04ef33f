"""Measures a whole ``flux-pipeline run``, Dagster and all, beside the bare loop.

Every figure is of processes from their start to their end: CPU for each image, and peak memory.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.overhead import contestant
from benchmarks.results import save
from benchmarks.servers import emulator, store

_SHARDS = 10


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.whole_run", description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        where = stack.enter_context(store(folder))
        origin = stack.enter_context(emulator())
        with contestant("bare", origin, where, str(folder)) as loop:
            bare, _ = loop.run("whole", options.images)
        first = run(folder, origin, where, options.images)
        again = run(folder, origin, where, options.images)
    print(f"{options.images} images in {_SHARDS} shards, ms of CPU an image")
    figures = {"images": options.images, "bare": bare, "run": first, "unchanged": again}
    for name in ("bare", "run", "unchanged"):
        print(f"{name:<12}{figures[name]:>8.2f}")
    print(f"{'ratio':<12}{first / bare:>8.2f}")
    if options.keep:
        save("whole_run", {name: round(value, 2) for name, value in figures.items()})


def run(folder: Path, origin: str, where: str, images: int) -> float:
    """CPU of one run, ms an image."""
    (folder / "configs").mkdir(exist_ok=True)
    (folder / "configs" / "ridge.yaml").write_text(
        "model: lucataco/flux-schnell-lora\n"
        f"partitions: {{by: shard, count: {_SHARDS}}}\n"
        f"prompts: {{ridge: {{prompt: a ridge, takes: {images}}}}}\n"
    )
    environ = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "FLUX_PROVIDER": origin,
        "FLUX_API_KEY": "benchmark",
        "FLUX_RATE": "60000",
        "FLUX_STORE": where,
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "flux_pipeline.cli", "run"]
    subprocess.run(command, cwd=folder, env=environ, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return 1000 * taken / images


if __name__ == "__main__":
    main()
