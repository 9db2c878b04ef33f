"""Times `flux-pipeline trace` in a large table, beside a bare scan of the same file.

Every figure is of a whole process, from its start to its end: wall time and CPU, the median of some
rounds in turns. The bare scans import what they need, decode the picture where there is one, and
look for the same value in the same column; DuckDB and pyarrow's dataset each.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.results import save
from flux_pipeline.lineage.parts import part_key
from flux_pipeline.lineage.schema import SCHEMA
from flux_pipeline.lineage.table import COMPACTED, compact
from flux_pipeline.store.base import Store
from flux_pipeline.store.open import open_store

_A_PART = 1000
_DECODE = "import PIL.Image, io, numpy; i = PIL.Image.open({picture!r}); i.load();"
_BARE = {
    "duckdb": "import duckdb; print(duckdb.sql({query!r}).fetchall())",
    "pyarrow": "import pyarrow.dataset as ds; print(ds.dataset({table!r}).to_table("
    "columns=['uri'], filter=ds.field({column!r}) == {value!r}).num_rows)",
}


@dataclass(frozen=True)
class Case:
    """One question, put to us and to the bare scans."""

    name: str
    target: str
    column: str
    value: str
    picture: str = ""


def build(store: Store, rows: int) -> None:
    """Parts as runs write them, compacted as the job does it."""
    rng = np.random.default_rng(1)
    for number in range(rows // _A_PART):
        day = date(2026, 9, 1) + timedelta(days=number * _A_PART // 12_000)
        key = part_key(asset="set/images", partition="", run_id=f"run-{number}", day=day)
        out = BytesIO()
        pq.write_table(_part(rng, number, day), out, compression="zstd")
        store.put(key, out.getvalue(), content_type="application/vnd.apache.parquet")
    compact(store)


def _part(rng: np.random.Generator, number: int, day: date) -> pa.Table:
    def hashes(size: int = 32) -> list[str]:
        return [one.tobytes().hex() for one in rng.integers(0, 256, (_A_PART, size), np.uint8)]

    words = np.array(["castle", "harbour", "storm", "dusk", "fog", "frog", "tale", "river"])
    prompts = [" ".join(line) for line in rng.choice(words, (_A_PART, 12))]
    at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    values: dict[str, object] = {
        "image_sha256": hashes(),
        "file_sha256": hashes(),
        "dhash": rng.integers(0, 2**64, _A_PART, np.uint64),
        "prediction_id": [f"p{one}" for one in hashes(12)],
        "request_sha256": hashes(),
        "prompt": prompts,
        "input": [f'{{"prompt":"{prompt}"}}' for prompt in prompts],
        "uri": [f"file:///store/images/set/a-{one}-0.webp" for one in hashes(8)],
        "run_id": [f"run-{number}"] * _A_PART,
        "requested_at": [at] * _A_PART,
        "stored_at": [at] * _A_PART,
        "status": ["stored"] * _A_PART,
    }
    filling = {"string": "some", "double": 0.5}
    columns = [
        pa.array(values[field.name], field.type)
        if field.name in values
        else pa.array([filling.get(str(field.type), 1)] * _A_PART).cast(field.type)
        for field in SCHEMA
    ]
    return pa.table(columns, schema=SCHEMA)


def measure(command: list[str], environ: dict[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    subprocess.run(command, env=environ, capture_output=True, check=False)
    wall = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cases(folder: Path) -> list[Case]:
    table = pq.ParquetFile(folder / COMPACTED)
    row = table.read_row_group(table.num_row_groups // 2).slice(7, 1).to_pylist()[0]
    picture = str(folder / "stranger.png")
    noise = np.random.default_rng(5).integers(0, 256, (1024, 1024, 3), np.uint8)
    Image.fromarray(noise).save(picture)
    unknown = "8" * 64
    return [
        Case("picture, unknown", picture, "image_sha256", unknown, picture),
        Case("hash, known", row["image_sha256"], "image_sha256", row["image_sha256"]),
        Case("prediction, known", row["prediction_id"], "prediction_id", row["prediction_id"]),
        Case("hash, unknown", unknown, "image_sha256", unknown),
    ]


def contestants(case: Case, folder: Path) -> dict[str, list[str]]:
    table = str(folder / COMPACTED)
    query = f"SELECT uri FROM '{table}' WHERE {case.column} = '{case.value}'"
    words = {"table": table, "column": case.column, "value": case.value, "query": query}
    decode = _DECODE.format(picture=case.picture) if case.picture else ""
    bare = {
        name: [sys.executable, "-c", decode + code.format(**words)] for name, code in _BARE.items()
    }
    ours = [sys.executable, "-m", "flux_pipeline.cli", "trace", case.target, "--json"]
    return {"ours": ours, **bare}


def report(case: Case, folder: Path, rounds: int, environ: dict[str, str]) -> dict[str, float]:
    """Print a case's line; return the seconds of CPU of each contestant."""
    commands = contestants(case, folder)
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            taken = measure(command, environ)
            if number:  # the first round warms the file up
                seen[name].append(taken)
    middle: Callable[[str, int], float] = lambda name, which: median(  # noqa: E731
        taken[which] for taken in seen[name]
    )
    cells = "".join(f"{middle(n, 0):>9.2f}{middle(n, 1):>7.2f}" for n in commands)
    ratios = "".join(f"{middle('ours', 1) / middle(n, 1):>9.2f}" for n in _BARE)
    print(f"{case.name:<20}{cells}{ratios}", flush=True)
    return {name: round(middle(name, 1), 2) for name in commands}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.trace", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="to build the table in, or to reuse")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        store = open_store(f"file:{folder}")
        if not (folder / COMPACTED).exists():
            build(store, options.rows)
        rows = pq.ParquetFile(folder / COMPACTED).metadata.num_rows
        size = (folder / COMPACTED).stat().st_size / 1e6
        print(f"{rows:,} rows, {size:.0f} MB; seconds of a whole process, wall and CPU")
        heads = "".join(f"{name:>16}" for name in ("ours", *_BARE))
        print(f"{'':<20}{heads}   CPU ratio to each")
        environ = os.environ | {"FLUX_STORE": f"file:{folder}"}
        figures = {
            case.name: report(case, folder, options.rounds, environ) for case in cases(folder)
        }
    if options.keep:
        save("trace", {"rows": rows, "cases": figures})


if __name__ == "__main__":
    main()
