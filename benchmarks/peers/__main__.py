"""Measures other libraries at the same work: killed half-way, run again, and run unchanged.

    python -m benchmarks.peers [--images 100] [--only prefect,daft] [--keep]

Each has an environment of its own, made here with uv and removed again. A library that can't be
installed, or whose job fails, is skipped with a word. What they do is in the loops of this folder,
as their documentation shows it; ``benchmarks.killed`` says what is counted.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.killed import Job, JobError, compete, ours, print_heads
from benchmarks.results import load, save
from flux_pipeline.models import find_model

_PEERS: Mapping[str, Sequence[str]] = {
    "prefect": ["prefect"],
    "pixeltable": ["pixeltable"],
    "daft": ["daft"],
    "datachain": ["datachain"],
    "ray": ["ray[data]"],
}
"""By the name of the library, which is that of its loop, what is installed for it."""
_INSTALL_SECONDS = 300


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.peers", description=__doc__)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--only", default=",".join(_PEERS), help="names, with commas")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    options = parser.parse_args()
    print_heads()
    figures = dict([compete(ours, options.images)])
    for name in options.only.split(","):
        with tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True) as folder:
            try:
                python, version = install(_PEERS[name], Path(folder))
                make = partial(loop, name=name, version=version, python=python)
                figures.update([compete(make, options.images)])
            except JobError as error:
                print(f"{name:<24}skipped: {error}", flush=True)
    if options.keep:
        save("peers", figures | kept_of_others(figures))


def kept_of_others(figures: Mapping[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """The kept figures of the libraries that were not measured now, in any version."""
    measured = {name.partition(" ")[0] for name in figures}
    kept = load().get("peers", {"figures": {}})["figures"]
    return {name: of for name, of in kept.items() if name.partition(" ")[0] not in measured}


def install(packages: Sequence[str], folder: Path) -> tuple[str, str]:
    """Install the packages into an environment; return its Python and the first one's version.

    Raises:
        JobError: They can't be had here.
    """
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    python, first = str(folder / "bin" / "python"), packages[0].partition("[")[0]
    said = ""
    for command in (
        [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "--quiet", "--python", python, *packages],
        [python, "-c", f"from importlib.metadata import version; print(version({first!r}))"],
    ):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=True
            )
        except subprocess.CalledProcessError as error:
            raise JobError(f"can't be installed: {error.stderr.strip()[-200:]}") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise JobError(f"can't be installed: {error}") from None
        said = done.stdout.strip()
    return python, said


def loop(folder: Path, origin: str, images: int, *, name: str, version: str, python: str) -> Job:
    """The job of a library."""
    script = str(Path(__file__).with_name(f"{name}_loop.py"))
    model = find_model("lucataco/flux-schnell-lora")
    return Job(
        f"{name} {version}",
        [python, script, origin, str(model.version), str(folder), str(images)],
        {},
        lambda: len(list(folder.glob("*.webp"))),
    )


if __name__ == "__main__":
    main()
