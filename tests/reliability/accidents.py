"""Accidents that a person mends or that pass, one worker after another; then one run mends all.

The outputs lie on ``localhost``, and so does the right provider. By its address the same provider
is another origin, whose outputs are refused: that stands for a wrong ``FLUX_OUTPUT_HOSTS``.
"""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flux_pipeline.ledger.base import State
from tests.reliability.long_run import PATIENCE, Load, Scene, kill, scene, terminate
from tests.servers.ports import free_port


@contextmanager
def accident_scene(folder: Path, load: Load) -> Iterator[Scene]:
    port = free_port()
    with scene(folder, load, port=port, output_origin=f"http://localhost:{port}") as here:
        yield here


def meet_accidents(here: Scene) -> Counter[str]:
    """Start worker after worker, each with an accident; return how often each was met."""
    dice = random.Random(here.load.seed)  # noqa: S311
    met: Counter[str] = Counter()
    for _ in range(here.load.disturbances):
        name = dice.choice(list(_ACCIDENTS))
        _ACCIDENTS[name](here, dice)
        met[name] += 1
        here.disturbed += 1
    return met


def run_mended(here: Scene) -> None:
    """One run with everything right; another only where it has seen a prediction fail."""
    for _ in range(2):
        worker = here.start(origin=_right(here))
        worker.join(PATIENCE)
        assert worker.exitcode == 0
        with here.ledger() as ledger:
            latest = {attempt.request_sha256: attempt for attempt in ledger.attempts()}
        if all(attempt.state is State.STORED for attempt in latest.values()):
            break


def _right(here: Scene) -> str:
    return here.server.origin.replace("127.0.0.1", "localhost")


def _wrong_host(here: Scene, dice: random.Random) -> None:
    _let_run(here, dice, here.start(origin=here.server.origin))


def _wrong_prefix(here: Scene, dice: random.Random) -> None:
    _let_run(here, dice, here.start(origin=f"{_right(here)}/v2"))


def _store_fails(here: Scene, dice: random.Random) -> None:
    """Nothing can be written for a while: a file lies where files are written first."""
    worker = here.start(origin=_right(here))
    worker.join(dice.uniform(*here.load.seconds))
    staging = here.folder / "store" / ".store" / "staging"
    staging.parent.mkdir(parents=True, exist_ok=True)
    _put_file_at(staging)
    _let_run(here, dice, worker)
    staging.unlink()


def _put_file_at(path: Path) -> None:
    """A worker may make the folder again in between."""
    while True:
        shutil.rmtree(path, ignore_errors=True)
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            continue
        return


def _killed(here: Scene, dice: random.Random) -> None:
    worker = here.start(origin=_right(here))
    worker.join(dice.uniform(*here.load.seconds))
    kill(here, worker)


def _let_run(here: Scene, dice: random.Random, worker: Any) -> None:
    """For a while; then it is asked to stop, or killed."""
    worker.join(dice.uniform(*here.load.seconds))
    dice.choice([terminate, kill])(here, worker)


_ACCIDENTS: dict[str, Callable[[Scene, random.Random], None]] = {
    "wrong host": _wrong_host,
    "wrong prefix": _wrong_prefix,
    "store fails": _store_fails,
    "killed": _killed,
}
