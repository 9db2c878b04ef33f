"""Runs the command line in a process of its own, which may die at a chosen effect.

Processes come from a fork server that has imported everything already, so that a death and the run
after it take a second and not ten.
"""

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flux_pipeline.produce.handler import EffectHandler

_OURS = ("FLUX_", "DAGSTER_", "AWS_", "GIT_")
_SECONDS = 600
"""A guard against hanging alone."""
_PRELOADED = [
    "flux_pipeline.definitions",
    "flux_pipeline.audit.verify",
    "flux_pipeline.cli.run",
    "flux_pipeline.emulator.server",
    "pyarrow.dataset",
    "pyarrow.parquet",
    # What is imported where it is needed alone: by the plot, and by Dagster's storage.
    "matplotlib.figure",
    "matplotlib.backends.backend_svg",
    "alembic.command",
    "dagster._core.storage.sqlite_storage",
    __name__,
]


@dataclass(frozen=True)
class Death:
    """Die before or after the n-th effect of this name, n from 1."""

    effect: str
    after: bool
    nth: int = 1


def context() -> Any:
    """The one fork server of a test process, with all imports done.

    The trap: what is preloaded is set by whoever uses it first, so all that use one come here.
    """
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(_PRELOADED)
    return made


def run_command(
    arguments: Sequence[str],
    *,
    folder: Path,
    environ: Mapping[str, str],
    death: Death | None = None,
) -> tuple[int, dict[str, Any]]:
    """Run ``flux-pipeline`` with these arguments; return its exit code and what it printed.

    Of our own variables it sees those in ``environ`` alone: the fork server has kept what was set
    when it began, by whatever test that was.
    """
    output = folder / "output.json"
    output.unlink(missing_ok=True)
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(_OURS)}
    process = context().Process(
        target=_command, args=(list(arguments), folder, {**inherited, **environ}, death, output)
    )
    process.start()
    process.join(_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"the command did not end within {_SECONDS} s")
    printed = output.read_text() if output.exists() else ""
    return process.exitcode, json.loads(printed) if printed.startswith("{") else {}


def _command(
    arguments: list[str], folder: Path, environ: dict[str, str], death: Death | None, output: Path
) -> None:
    from flux_pipeline.cli import main

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    with output.open("w") as out, (folder / "errors.txt").open("a") as errors:
        os.dup2(out.fileno(), 1)
        os.dup2(errors.fileno(), 2)
        sys.stdout, sys.stderr = out, errors
        if death is not None:
            _arm(death)
        sys.argv = ["flux-pipeline", *arguments]
        main()


def _arm(death: Death) -> None:
    perform = EffectHandler.__dict__["perform"]  # the dispatcher itself, not what it binds to
    seen = 0

    async def dying(self: EffectHandler, effect: Any) -> Any:
        nonlocal seen
        seen += type(effect).__name__ == death.effect
        mine = type(effect).__name__ == death.effect and seen == death.nth
        if mine and not death.after:
            os.kill(os.getpid(), signal.SIGKILL)
        outcome = await perform.__get__(self, EffectHandler)(effect)
        if mine and death.after:
            os.kill(os.getpid(), signal.SIGKILL)
        return outcome

    EffectHandler.perform = dying  # type: ignore[method-assign,assignment]
