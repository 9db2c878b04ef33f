"""Measures the CPU of loading the definitions of 100 prompt sets of 1,000 prompts each.

Beside them stand plain Dagster assets of the same shape (``benchmarks.plain_assets``): as many
assets, partitions, checks, jobs, schedules and sensors, which the measurement counts. Each load is
a process of its own; importing Dagster and the package comes before it and is not counted.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.compiled import compile_package
from benchmarks.plain_assets import CRON
from benchmarks.results import save

_FIRST, _AGAIN, _ONE_CHANGED = "first", "unchanged again", "one file changed"


def measure(code: str, folder: Path) -> tuple[float, str]:
    """CPU seconds of a load in a new process, and the counts of what was loaded."""
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-W", "ignore", "-c", f"{code}\n{_LOAD}"]
    done = subprocess.run(
        command, cwd=folder, env=environ, stdout=subprocess.PIPE, text=True, check=True
    )
    seconds, _, counts = done.stdout.strip().partition(" ")
    return float(seconds), counts


_OURS = "from flux_pipeline.definitions import defs as load"
_PLAIN = "from functools import partial\nfrom benchmarks.plain_assets import build_plain"
_LOAD = """
import time
from benchmarks.plain_assets import shape_of
begun = time.process_time()
shape = shape_of(load().get_repository_def())
print(time.process_time() - begun, *shape)
"""


FORMS = {
    "line": "  {key}: {text}\n",
    "folded": "  {key}: >-\n    {text}\n",
    "mapping": "  {key}:\n    prompt: {text}\n    seed: {number}\n",
    "table": '{key},"{text}"\n',
}
"""How a prompt is written: in a line or otherwise; a table's rows stand in a file of theirs."""


def write_sets(folder: Path, sets: int, prompts: int, form: str) -> None:
    """Write the files of the prompt sets."""
    configs = folder / "configs"
    configs.mkdir(exist_ok=True)
    for number in range(sets):
        write_set(configs, number, prompts, form, "a harbour at dusk")


def write_set(configs: Path, number: int, prompts: int, form: str, about: str) -> None:
    """Write one file, and its table if it has one."""
    lines = "".join(
        FORMS[form].format(
            key=f"idea-{idea:04d}", text=f"{about}, view {idea} of {number}", number=idea
        )
        for idea in range(prompts)
    )
    name = f"set_{number:03d}"
    if form == "table":
        (configs / f"{name}.csv").write_text(f"key,text\n{lines}")
        lines = f"  p: {{prompt: '{{text}}', table: {name}.csv, key: key}}\n"
    head = f'model: lucataco/flux-schnell-lora\nschedule: {{cron: "{CRON}"}}\nprompts:\n'
    (configs / f"{name}.yaml").write_text(head + lines)


def measure_all(folder: Path, sets: int, prompts: int, form: str, rounds: int) -> dict[str, float]:
    """The median CPU of each load, in rounds that take turns.

    Raises:
        SystemExit: The definitions compared are not of the same shape.
    """
    plain_code = f"{_PLAIN}\nload = partial(build_plain, {sets}, {prompts})"
    found: dict[str, list[float]] = {}
    for number in range(rounds):
        round_folder = folder / f"round-{number}"  # nothing is remembered of it yet
        round_folder.mkdir()
        write_sets(round_folder, sets, prompts, form)
        shapes = set()
        for what in ("plain", _FIRST, _AGAIN, _ONE_CHANGED):
            if what == _ONE_CHANGED:
                write_set(round_folder / "configs", 0, prompts, form, "a harbour at dawn")
            code = plain_code if what == "plain" else _OURS
            seconds, counts = measure(code, round_folder)
            found.setdefault(what, []).append(seconds)
            shapes.add(counts)
        if len(shapes) > 1:
            sys.exit(f"not the same shape: {' / '.join(sorted(shapes))}")
    return {what: round(median(seconds), 3) for what, seconds in found.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.load", description=__doc__)
    parser.add_argument("--sets", type=int, default=100)
    parser.add_argument("--prompts", type=int, default=1_000)
    parser.add_argument("--form", choices=FORMS, default="line", help="how a prompt is written")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args(arguments)
    compile_package()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        cpu = measure_all(Path(name), options.sets, options.prompts, options.form, options.rounds)
    for what, seconds in cpu.items():
        print(f"{what:<20}{seconds:>8.3f} s of CPU{seconds / cpu['plain']:>8.2f}", flush=True)
    if options.keep and options.form == "line":
        save("load", {"sets": options.sets, "prompts": options.prompts, "cpu": cpu})


if __name__ == "__main__":
    main()
