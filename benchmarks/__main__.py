"""``make bench`` and ``make bench-all``: runs the benchmarks one after the other.

    python -m benchmarks [--all] [--keep]

Each prints its table. With ``--keep`` the figures are written to ``benchmarks/results/``, and the
table of ``docs/performance.md`` is made of them.
"""

import argparse
import importlib.util
import subprocess
import sys

from benchmarks.table import write_table

_QUICK = ("overhead", "costs", "startup")
_ALL = (*_QUICK, "load", "whole_run", "growth", "killed", "peers", "trace", "rate")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--all", action="store_true", help="also those that take minutes")
    parser.add_argument("--keep", action="store_true", help="write the figures and their table")
    options = parser.parse_args()
    for name in _ALL if options.all else _QUICK:
        print(f"\n== {name}", flush=True)
        if name == "killed" and importlib.util.find_spec("replicate") is None:
            print("skipped: the official client is not installed (make test installs it)")
            continue
        keep = ["--keep"] if options.keep else []
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *keep], check=True)
    if options.keep:
        write_table()


if __name__ == "__main__":
    main()
