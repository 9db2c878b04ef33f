"""Measures the CPU of what a person waits for: commands in a folder of one prompt set."""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.compiled import compile_package
from benchmarks.results import save

EMPTY_RUN = "an empty Dagster run"
_CODE = {
    "import dagster": "import dagster",
    EMPTY_RUN: "from benchmarks.empty_run import main; main()",
    "import flux_pipeline.definitions": "import flux_pipeline.definitions",
}
_COMMANDS = ("--help", "--version", "schema", "plan", "run", "run, nothing to do", "verify")
_SETS = 10
_TEN = "run, ten sets with nothing to do"
_PROMPTS = "model: lucataco/flux-schnell-lora\nprompts: {ridge: {prompt: a ridge, takes: 8}}\n"


def cpu_seconds(command: list[str], folder: Path) -> float:
    """User and system seconds of one process with its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run(command, cwd=folder, env=environ, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.startup", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    compile_package()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        write_sets(folder, 1)
        for what in (*_CODE, *_COMMANDS):
            arguments = what.removesuffix(", nothing to do").split()
            command = [sys.executable, "-m", "flux_pipeline.cli", *arguments]
            if what in _CODE:
                command = [sys.executable, "-c", _CODE[what]]
            rounds = 1 if what == "run" else options.rounds  # the second one has nothing to do
            figures[what] = round(median(cpu_seconds(command, folder) for _ in range(rounds)), 2)
            print(f"{what:<36}{figures[what]:>8.2f} s of CPU", flush=True)
        write_sets(folder, _SETS)
        command = [sys.executable, "-m", "flux_pipeline.cli", "run"]
        cpu_seconds(command, folder)  # what is new is made
        idle = [cpu_seconds(command, folder) for _ in range(options.rounds)]
        figures[_TEN] = round(median(idle), 2)
        print(f"{_TEN:<36}{figures[_TEN]:>8.2f} s of CPU", flush=True)
    if options.keep:
        save("startup", figures)


def write_sets(folder: Path, count: int) -> None:
    """Write the files of this many prompt sets, of eight images each."""
    (folder / "configs").mkdir(exist_ok=True)
    for number in range(count):
        text = _PROMPTS.replace("a ridge", f"a ridge {number}")
        (folder / "configs" / f"ridge-{number}.yaml").write_text(text)


if __name__ == "__main__":
    main()
