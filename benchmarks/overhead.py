"""Compares the CPU of this package with that of a bare loop.

Both make the same images over the same servers, in turns, each in a process of its own. What counts
is their own CPU, user and system, of the median round: wall time would say more about the machine.
Ratios are those of each round, so that what else the machine does weighs on both.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.results import save
from benchmarks.servers import emulator, store

_WARM_UP = 32
_AIMS = {"all": 1.25, "without_decoding": 1.9}  # the ratios that ours should stay under


@dataclass
class Contestant:
    """One process and what it reported, in milliseconds of CPU per image."""

    process: "subprocess.Popen[str]"
    total: list[float] = field(default_factory=list)
    without: list[float] = field(default_factory=list)
    peak_mb: float = 0.0

    def run(self, round_name: str, count: int) -> tuple[float, float]:
        """Run one round; return its CPU with and without decoding."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{round_name} {count}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args!r} ended with {self.process.wait()}")
        said = json.loads(line)
        self.peak_mb = said["peak_mb"]
        cpu, decoding = said["cpu"], said["decoding"]
        return 1000 * cpu / count, 1000 * (cpu - decoding) / count

    def figures(self) -> dict[str, float]:
        """Medians of the rounds that counted, in ms, and the peak in MB."""
        return {
            "all": round(median(self.total), 2),
            "without_decoding": round(median(self.without), 2),
            "peak_mb": round(self.peak_mb),
        }

    def compete(self, round_name: str, count: int) -> None:
        """Run one round that counts."""
        total, without = self.run(round_name, count)
        self.total.append(total)
        self.without.append(without)


@contextmanager
def contestant(name: str, *arguments: str) -> Iterator[Contestant]:
    """Start one, warm: everything is imported and every connection was used once."""
    command = [sys.executable, "-m", "benchmarks.contestant", name, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe) as process:
        try:
            started = Contestant(process)
            started.run("warm-up", _WARM_UP)
            yield started
        finally:
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.overhead", description=__doc__)
    parser.add_argument("--images", type=int, default=200, help="a round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        where = stack.enter_context(store(folder))
        arguments = stack.enter_context(emulator()), where, str(folder)
        bare = stack.enter_context(contestant("bare", *arguments))
        ours = stack.enter_context(contestant("ours", *arguments))
        for number in range(options.rounds):
            in_turn = (bare, ours) if number % 2 else (ours, bare)
            for each in in_turn:
                each.compete(f"round-{number}", options.images)
        again = [ours.run(f"round-{number}", options.images)[0] for number in range(options.rounds)]
    print(
        f"{options.images} images of 1024 x 1024 px webp a round, {options.rounds} rounds, {where}"
    )
    figures = {
        "images": options.images,
        "store": where.partition(":")[0],
        "bare": bare.figures(),
        "ours": ours.figures(),
        "ratio": {
            "all": _ratio(ours.total, bare.total),
            "without_decoding": _ratio(ours.without, bare.without),
        },
        "unchanged": round(median(again), 3),
    }
    _print_table(figures)
    print(f"\nthe same again, unchanged: {median(again):.2f} ms CPU an image, nothing sent")
    if options.keep:
        save("overhead", figures)


def _ratio(ours: list[float], bare: list[float]) -> float:
    return round(median(one / other for one, other in zip(ours, bare, strict=True)), 3)


def _print_table(figures: dict[str, Any]) -> None:
    print(f"\n{'CPU ms an image (median)':<28}{'bare loop':>10}{'ours':>10}{'ratio':>8}{'aim':>8}")
    bare, ours, ratio = figures["bare"], figures["ours"], figures["ratio"]
    for name, aim in _AIMS.items():
        label = name.replace("_", " ")
        print(f"{label:<28}{bare[name]:>10.2f}{ours[name]:>10.2f}{ratio[name]:>8.2f}{aim:>8.2f}")
    left, right = bare["peak_mb"], ours["peak_mb"]
    print(f"{'peak memory, MB':<28}{left:>10.0f}{right:>10.0f}{right / left:>8.2f}")


if __name__ == "__main__":
    main()
