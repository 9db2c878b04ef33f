"""Measures how much of a provider's rate is used, over real sockets: rates, durations, workers.

    python -m benchmarks.rate [--cells 1x10,10x2.5,10x10x2,10x0.2+20] [--seconds 40] [--keep]

A cell is creates a second x seconds of a prediction, and x processes that share one ledger's rate.
With ``0.2+20`` each second request is of another model, which takes 20 s.
The emulator refuses what is beyond the rate, and two predictions in a hundred start cold. Nothing
is set but the rate. ``tests/produce/test_rate.py`` has the same on a virtual clock.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
from pathlib import Path
from time import monotonic, process_time
from typing import NamedTuple

from benchmarks.results import save
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.emulator.usage import CREATE_ROUTES, Usage
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.sql import SqlRates
from flux_pipeline.models import build_request, find_model
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.produce.producer import Producer
from flux_pipeline.produce.spool import Spool
from flux_pipeline.provider.client import Provider
from flux_pipeline.provider.config import ProviderConfig, usual_calls
from flux_pipeline.request import Request, Source
from flux_pipeline.store.open import open_store

_MODEL = find_model("black-forest-labs/flux-schnell")
_SLOW_MODEL = find_model("black-forest-labs/flux-dev")
_CELLS = "1x10,10x2.5,10x60,10x10x2,10x0.2+20,50x0.2,50x2x2"
_HEADS = ("rate used", "polls", "refused", "CPU ms", "server's", "peak MB", "load")
"""``CPU ms`` and ``server's`` are an image's; both need cores that others leave free."""
_BURST = 2.0
"""s; a bucket of the provider holds what flows in during this time."""


class Cell(NamedTuple):
    """One line of the table."""

    rate: float
    """Creates a second."""
    takes: float
    """Median of a prediction, s."""
    workers: int = 1
    slow_takes: float | None = None
    """Median of a prediction of the other model, s."""

    @classmethod
    def parse(cls, text: str) -> "Cell":
        """Read ``10x2.5``, ``10x2.5x4`` or ``10x0.2+20``."""
        rate, takes, *workers = text.split("x")
        fast, _, slow = takes.partition("+")
        return cls(float(rate), float(fast), int(*workers or ["1"]), float(slow) if slow else None)


class Cost(NamedTuple):
    """What one worker's process took."""

    cpu: float
    """s, user and system"""
    peak_mb: float


def make_requests(cell: Cell, count: int, worker: int) -> list[Request]:
    """A worker's part of the requests of one cell, as small as pictures are."""
    values = {"aspect_ratio": "1:1", "megapixels": "0.25", "output_format": "jpg"}
    requests = []
    for number in range(worker, count, cell.workers):
        is_slow = cell.slow_takes is not None and number // cell.workers % 2
        model = _SLOW_MODEL if is_slow else _MODEL
        wanted = model.validate({"prompt": str(cell), "seed": number, **values})
        requests.append(build_request(model, wanted, Source("rate", f"{number:05d}")))
    return requests


def work(origin: str, folder: Path, cell: Cell, count: int, worker: int) -> None:
    """Make a worker's part; a process of its own."""
    requests = make_requests(cell, count, worker)
    per_minute = 60 * cell.rate
    config = ProviderConfig(
        base_url=origin,
        api_key="benchmark",
        creates_per_minute=per_minute,
        calls_per_minute=usual_calls(per_minute),
    )
    with open_ledger(f"sqlite:///{folder}/ledger.db") as ledger:
        rates = SqlRates(ledger, {"create": per_minute, "call": config.calls_per_minute})
        producer = Producer(
            open_provider=lambda: Provider(config, rates=rates),
            store=open_store(f"file:{folder}/store"),
            ledger=ledger,
            spool=Spool(folder / "spool"),
        )
        with producer.stream([("p", requests)], run=RunContext(f"run-{worker}")) as reports:
            if not all(report.tally.complete for report in reports):
                raise SystemExit("not every image was stored")
    used = resource.getrusage(resource.RUSAGE_SELF)
    (folder / f"cost-{worker}").write_text(
        f"{used.ru_utime + used.ru_stime} {used.ru_maxrss / 1024}"
    )


def measure(cell: Cell, seconds: float) -> dict[str, float]:
    """Run one cell for so many seconds of creates; return its figures."""
    count = max(int(cell.rate * seconds), 40)
    options = EmulatorOptions(
        render="cheap",
        latency_median=cell.takes,
        latency_by_model={_SLOW_MODEL.name: cell.slow_takes or cell.takes},
        cold_start_rate=0.02,
        creates_per_minute=60 * cell.rate,
        calls_per_minute=usual_calls(60 * cell.rate),
        burst_seconds=_BURST,
    )
    made = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="rate-") as name, EmulatorServer(options) as server:
        folder = Path(name)
        with open_ledger(f"sqlite:///{folder}/ledger.db"):
            pass  # so that the workers don't all make it
        arguments = [(server.origin, folder, cell, count, number) for number in range(cell.workers)]
        workers = [made.Process(target=work, args=each) for each in arguments]
        begun, load, server_cpu = monotonic(), os.getloadavg()[0], process_time()
        for each in workers:
            each.start()
        for each in workers:
            each.join()
        if any(each.exitcode for each in workers):
            raise SystemExit(f"{cell}: a worker failed")
        costs = [
            Cost(*map(float, path.read_text().split())) for path in sorted(folder.glob("cost-*"))
        ]
        return {
            **_figures(cell, server.usage()),
            "CPU ms": 1000 * sum(each.cpu for each in costs) / count,
            "server's": 1000 * (process_time() - server_cpu) / count,
            "load": load,
            "peak MB": max(each.peak_mb for each in costs),
            "images": count,
            "seconds": monotonic() - begun,
        }


def _figures(cell: Cell, usage: Usage) -> dict[str, float]:
    times = sorted(each.created_at for each in usage.predictions)
    routes = usage.requests_by_route
    polls = sum(times for route, times in routes.items() if route.endswith("/predictions/{id}"))
    creates = sum(routes.get(route, 0) for route in CREATE_ROUTES)
    return {
        "rate used": (len(times) - 1) / (times[-1] - times[0]) / cell.rate,
        "polls": polls / len(times),
        "refused": (creates - len(times)) / creates,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.rate", description=__doc__)
    parser.add_argument("--cells", default=_CELLS)
    parser.add_argument("--seconds", type=float, default=40.0, help="for which a cell creates")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    print(f"{'a second x s x workers':<24}" + "".join(f"{head:>12}" for head in _HEADS), flush=True)
    kept: dict[str, dict[str, float]] = {}
    for text in options.cells.split(","):
        cell = Cell.parse(text)
        figures = kept[text] = measure(cell, options.seconds)
        slow = f"+{cell.slow_takes:g}" if cell.slow_takes else ""
        name = f"{cell.rate:g} x {cell.takes:g}{slow} x {cell.workers}"
        shown = "".join(
            f"{figures[head]:>12.1%}"
            if head in ("rate used", "refused")
            else f"{figures[head]:>12.2f}"
            for head in _HEADS
        )
        print(f"{name:<24}{shown}", flush=True)
    if options.keep:
        save("rate", kept)


if __name__ == "__main__":
    sys.exit(main())
