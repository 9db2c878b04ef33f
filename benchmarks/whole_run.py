"""Measures a whole ``flux-pipeline run``, Dagster and all, beside the bare loop.

Every figure is of a process from its start to its end: CPU, for each image. A run of few images is
what a run costs before the first of them; one by prompt has a partition for each image.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.compiled import compile_package
from benchmarks.overhead import contestant
from benchmarks.results import save
from benchmarks.servers import emulator, store

_SHARDS = 10
_FEW = 10
"""Images of the run that tells what a run costs anyway."""
_BY_PROMPT = 400


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.whole_run", description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    count = options.images
    compile_package()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        where = stack.enter_context(store(folder))
        origin = stack.enter_context(emulator())
        project = Project(folder, origin, where)
        with contestant("bare", origin, where, str(folder)) as loop:
            before, _ = loop.run("before", count)
            first = 1000 * project.run("ridge", count) / count
            after, _ = loop.run("after", count)  # a core's speed changes within a minute
        bare = (before + after) / 2
        again = 1000 * project.run("ridge", count) / count
        few = project.run("few", _FEW)
        shards = project.run("shards", _BY_PROMPT)
        prompts = project.run("prompts", _BY_PROMPT, by_prompt=True)
    partition = 1000 * (prompts - shards) / (_BY_PROMPT - _SHARDS)
    print(f"{count} images in {_SHARDS} shards, ms of CPU an image")
    figures = {"images": count, "bare": bare, "run": first, "unchanged": again}
    for name in ("bare", "run", "unchanged"):
        print(f"{name:<12}{figures[name]:>8.2f}")
    print(f"{'ratio':<12}{first / bare:>8.2f}")
    print(f"a run of {_FEW} images: {few:.2f} s of CPU")
    print(f"a partition by prompt: {partition:.1f} ms of CPU beyond an image in a shard")
    figures |= {"few": few, "partition": partition}
    if options.keep:
        save("whole_run", {name: round(value, 2) for name, value in figures.items()})


class Project:
    """A folder of prompt sets, each run by itself in a process of its own."""

    def __init__(self, folder: Path, origin: str, where: str) -> None:
        self._folder = folder
        self._environ = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "FLUX_PROVIDER": origin,
            "FLUX_API_KEY": "benchmark",
            "FLUX_RATE": "60000",
            "FLUX_STORE": where,
        }

    def run(self, name: str, images: int, *, by_prompt: bool = False) -> float:
        """Seconds of CPU of one run of a set."""
        configs = self._folder / name / "configs"
        configs.mkdir(parents=True, exist_ok=True)
        prompts = "".join(f"  p{number}: a {name} {number}\n" for number in range(images))
        cut = "{by: prompt}" if by_prompt else f"{{by: shard, count: {_SHARDS}}}"
        (configs / f"{name}.yaml").write_text(
            f"model: lucataco/flux-schnell-lora\npartitions: {cut}\nprompts:\n{prompts}"
        )
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "flux_pipeline.cli", "run"],
            cwd=configs.parent,
            env=self._environ | {"FLUX_STORE": f"{self._environ['FLUX_STORE']}/{name}"},
            capture_output=True,
            check=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
