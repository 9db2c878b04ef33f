"""Runs the command line, or another program, in a process that may die at a chosen effect.

Processes come from a fork server that has imported everything already, so that a death and the run
after it take a second and not ten.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from flux_pipeline import image_maker
from flux_pipeline.produce.handler import EffectHandler
from flux_pipeline.produce.policy import Policy
from tests.servers.fork_server import address, context, take_processes_from

_OURS = ("FLUX_", "DAGSTER_", "AWS_", "GIT_")
_SECONDS = 600
"""A guard against hanging alone."""


@dataclass(frozen=True)
class Death:
    """Die before or after the n-th effect of this name, n from 1."""

    effect: str
    after: bool
    nth: int = 1


@dataclass(frozen=True)
class Running:
    """A program in a process of its own, with what it prints in two files."""

    process: Any
    output: Path
    errors: Path

    def wait(self) -> tuple[int, str]:
        """Wait for its end; return the exit code and what it has printed on standard output."""
        self.process.join(_SECONDS)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise TimeoutError(f"the program did not end within {_SECONDS} s")
        printed = self.output.read_text() if self.output.exists() else ""
        return self.process.exitcode, printed

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.process.pid, number)


def run_command(
    arguments: Sequence[str],
    *,
    folder: Path,
    environ: Mapping[str, str],
    death: Death | None = None,
) -> tuple[int, dict[str, Any]]:
    """Run ``flux-pipeline`` with these arguments; return its exit code and what it printed."""
    code, printed = start_program(arguments, folder=folder, environ=environ, death=death).wait()
    return code, json.loads(printed) if printed.startswith("{") else {}


def make_images_of(sets: Sequence[str], *, folder: Path, environ: Mapping[str, str]) -> None:
    """Make what ``run`` makes, without Dagster's run: where a test needs images and no more.

    It takes a fifth of the CPU.
    """
    program = start_program(sets, folder=folder, environ=environ, entry=f"{__name__}:_make_images")
    assert program.wait()[0] == 0, program.errors.read_text()


def _make_images() -> None:
    for name in sys.argv[1:]:
        for _ in image_maker.make_images(name):
            pass


def start_program(
    arguments: Sequence[str],
    *,
    folder: Path,
    environ: Mapping[str, str],
    entry: str = "flux_pipeline.cli:main",
    death: Death | None = None,
) -> Running:
    """Start a program in the folder; ``entry`` is its entry point, ``module:function``.

    Of our own variables it sees those in ``environ`` alone: the fork server has kept what was set
    when it began, by whatever test that was.
    """
    output, errors = folder / "output.json", folder / "errors.txt"
    output.unlink(missing_ok=True)
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(_OURS)}
    made = context()
    given = (entry, list(arguments), folder, {**inherited, **environ}, death, address())
    process = made.Process(target=_run_entry, args=given)
    process.start()
    return Running(process, output, errors)


def _run_entry(  # noqa: PLR0917
    entry: str,
    arguments: list[str],
    folder: Path,
    environ: dict[str, str],
    death: Death | None,
    place: str,
) -> None:
    from flux_pipeline import resources

    take_processes_from(place)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    with Path("output.json").open("w") as output, Path("errors.txt").open("a") as errors:
        os.dup2(output.fileno(), 1)
        os.dup2(errors.fileno(), 2)
        sys.stdout, sys.stderr = output, errors
        if death is not None:
            arm(death)
        # The emulator does not need the two seconds that a first prediction usually takes, and
        # what has failed here is mended at once or not at all.
        quick = partial(Policy, expected_seconds=0.05, backoff=0.05, busy_interval=0.1)
        resources.Policy = quick  # type: ignore[misc,assignment]
        module, _, function = entry.partition(":")
        # As for a script that is installed: Dagster takes the first path for the script's folder.
        sys.path.insert(0, str(Path(sys.executable).parent))
        sys.argv = [module.partition(".")[0].replace("_", "-"), *arguments]
        getattr(import_module(module), function)()


def arm(death: Death) -> None:
    """Let this process die at the chosen effect."""
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
