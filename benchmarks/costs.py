"""Counts calls, statements, commits and bytes of an image, as ``benchmarks.structure`` does."""

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.results import save
from benchmarks.servers import emulator, store


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.costs", description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        where = stack.enter_context(store(Path(folder)))
        arguments = [stack.enter_context(emulator()), where, folder, str(options.images)]
        command = [sys.executable, "-m", "benchmarks.structure", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    counted = json.loads(done.stdout)
    an_image = {name: round(n / options.images, 2) for name, n in counted["made"].items()}
    for name, count in sorted(an_image.items()):
        print(f"{name:<32}{count:>12,}")
    if options.keep:
        save("costs", {"images": options.images, "an image": an_image})


if __name__ == "__main__":
    main()
