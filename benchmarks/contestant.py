"""Runs the rounds of one contestant in a process of its own, and reports its CPU and memory.

    python -m benchmarks.contestant bare|ours ORIGIN STORE FOLDER

Each line of input is ``NAME COUNT``; each line of output is a JSON object with the CPU seconds, the
part of them that decoding took, and the memory's peak so far.
"""

import json
import os
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from benchmarks.meter import Meter, peak_mb

# Imported when chosen: the memory of each is its own.
_CONTESTANTS = {
    "bare": ("benchmarks.bare_loop", "BareLoop"),
    "ours": ("benchmarks.pipeline", "Pipeline"),
}


def main() -> None:
    name, origin, store, folder = sys.argv[1:]
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # as a command does
    meter = Meter()
    module, kind = _CONTESTANTS[name]
    contestant = getattr(import_module(module), kind)(origin, store, Path(folder))
    for line in sys.stdin:
        round_name, count = line.split()
        reading = meter.measure(lambda: contestant.run(round_name, int(count)))  # noqa: B023
        print(json.dumps(asdict(reading) | {"peak_mb": peak_mb()}), flush=True)


if __name__ == "__main__":
    main()
