"""Measures the peak memory of the bare loop and of ours at 200 images, and at many more."""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.overhead import contestant
from benchmarks.results import save
from benchmarks.servers import emulator, store

_FEW = 200


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.growth", description=__doc__)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        where = stack.enter_context(store(folder))
        origin = stack.enter_context(emulator())
        for name in ("bare", "ours"):
            with contestant(name, origin, where, str(folder)) as one:
                figures[name] = {}
                for count in (_FEW, options.images):
                    one.run(f"growth-{count}", count)
                    figures[name][str(count)] = round(one.peak_mb)
                    print(f"{name:<8}{count:>8,} images{one.peak_mb:>8.0f} MB", flush=True)
    if options.keep:
        save("growth", figures)


if __name__ == "__main__":
    main()
