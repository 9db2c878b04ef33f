"""Compiles this package before it is measured, as an installation or a first run leaves it.

Where PYTHONDONTWRITEBYTECODE is set, each process would compile all modules anew: 0.3 s of CPU of a
run, which nobody pays who has not set it, while the libraries beside it were compiled by their
installation.
"""

import compileall
import os
from pathlib import Path

_PACKAGES = ("flux_pipeline", "benchmarks")


def compile_package() -> None:
    """Compile what is not compiled yet, and have the processes that are started here find it."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for name in _PACKAGES:
        compileall.compile_dir(Path(__file__).parents[1] / name, quiet=1)
