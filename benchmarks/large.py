"""Measures commands and the gallery of very many finished images: CPU, and memory at its peak.

The state is what runs leave behind, written by the project's own functions and without making a
picture: ledger, lineage parts, thumbnails, gallery and objects. Every object is a link to one small
file, so that the sample that a run reads back is not what was recorded.
"""

import argparse
import csv
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from benchmarks.results import save
from flux_pipeline.audit.ownership import claim_ledger
from flux_pipeline.gallery.build import build_gallery, build_overview
from flux_pipeline.gallery.manifest import gallery_key
from flux_pipeline.ledger.base import Attempt, Intent, State
from flux_pipeline.ledger.codec import dump_request
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.schema import ATTEMPTS
from flux_pipeline.lineage.asked import AskedRequests
from flux_pipeline.lineage.parts import write_part
from flux_pipeline.lineage.record import EMULATED, ImageRecord, ImageStatus, records_to_json
from flux_pipeline.lineage.table import compact
from flux_pipeline.lineage.thumbnails import write_pack
from flux_pipeline.produce.ingest import image_key
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.produce.records import build_record
from flux_pipeline.prompts import PromptSet
from flux_pipeline.prompts.load import load_prompt_sets
from flux_pipeline.request import Request
from flux_pipeline.store.open import open_store

A_SHARD = 1_000
_A_PACK = 256
_LINKS = 50_000  # file systems allow some 65,000 of one file
_SET = "large"
_COMMANDS = {
    "run, one shard": ("run", "--partition", "shard-0001"),
    "plan, one shard": ("plan", "--partition", "shard-0001"),
    "plan": ("plan",),
    "verify": ("verify",),
    "run": ("run",),
}
_GALLERY = "gallery"


def build(folder: Path, images: int) -> None:
    """Write a project whose one set has this many images, all of them finished."""
    _write_configs(folder, images)
    store, now = open_store(f"file:{folder / 'data' / 'store'}"), datetime.now(UTC)
    store.check()
    [prompt_set] = load_prompt_sets(folder / "configs")
    asked = AskedRequests()
    links = _Links(folder)
    with open_ledger(f"sqlite:///{folder / 'data' / 'ledger.db'}") as ledger:
        claim_ledger(ledger, store, emulated=True)
        for partition, requests in asked.watch(_by_shard(prompt_set)):
            run = RunContext(f"run-{partition}", f"{_SET}/images", provider=EMULATED)
            finished = [_finished(request, run, store.uri, now) for request in requests]
            with ledger.transaction() as transaction:
                transaction.connection.execute(ATTEMPTS.insert(), [row for _, row in finished])
            records = [record for record, _ in finished]
            about = {"asset": run.asset, "partition": partition, "run_id": run.run_id}
            write_part(store, records, **about, day=now.date())
            for start in range(0, len(records), _A_PACK):
                pack = {str(each.image_sha256): links.body for each in records[start:][:_A_PACK]}
                write_pack(store, _SET, pack, day=now.date())
            for record in records:
                links.add(folder / "data" / "store" / str(record.uri).removeprefix(f"{store.uri}/"))
    known = prompt_set.partition_keys()
    asked.write(store, _SET, known=known, run_id="run", now=now)
    compact(store)
    build_gallery(store, _SET, now=now)
    build_overview(store, now=now)


def _write_configs(folder: Path, images: int) -> None:
    configs = folder / "configs"
    configs.mkdir(parents=True)
    (configs / f"{_SET}.yaml").write_text(
        "model: lucataco/flux-schnell-lora\n"
        f"partitions: {{by: shard, count: {max(1, images // A_SHARD)}}}\n"
        "prompts:\n"
        "  idea:\n"
        "    table: ideas.csv\n"
        "    key: id\n"
        "    prompt: a {subject} at {time}, {mood}, wide view with a low horizon\n"
    )
    with (configs / "ideas.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "subject", "time", "mood"])
        for number in range(images):
            mood = hashlib.sha256(b"%d" % number).hexdigest()[:24]
            writer.writerow([f"row-{number:07d}", f"harbour {number}", "dusk", mood])


def _by_shard(prompt_set: PromptSet) -> Iterator[tuple[str, Sequence[Request]]]:
    shards: dict[str, list[Request]] = {key: [] for key in prompt_set.partition_keys()}
    for request in prompt_set.requests():
        shards[request.source.partition].append(request)
    yield from shards.items()


def _finished(
    request: Request, run: RunContext, store_uri: str, now: datetime
) -> tuple[ImageRecord, dict[str, object]]:
    """One image's record, and its row of the ledger."""
    sha, at = request.request_sha256, now.timestamp()
    intent = Intent(sha, _SET, run.run_id, 3000, dump_request(request))
    attempt = Attempt(sha, 1, State.STORED, "bench", at, at, intent, prediction_id=f"p{sha[:24]}")
    record = replace(
        build_record(request, run, index=0, status=ImageStatus.STORED, attempt=attempt),
        image_sha256=hashlib.sha256(sha.encode()).hexdigest(),
        file_sha256=hashlib.sha256(b"file" + sha.encode()).hexdigest(),
        dhash=int(sha[16:32], 16),
        uri=f"{store_uri}/{image_key(request, 0)}",
        width=1024,
        height=1024,
        bytes=200_000,
        completed_at=now,
        stored_at=now,
        predict_seconds=1.5,
    )
    row: dict[str, object] = {
        "request_sha256": sha,
        "number": 1,
        "latest": True,
        "state": State.STORED.value,
        "holder": "bench",
        "claims": 1,
        "claimed_at": at,
        "lease_seconds": 120.0,
        "boot": "",
        "presence": "",
        "intent_at": at,
        "prompt_set": _SET,
        "run_id": run.run_id,
        "cost_micros": 3000,
        "scopes": "[]",
        "request_json": intent.request_json,
        "prediction_id": attempt.prediction_id,
        "reply": "{}",
        "retryable": False,
        "images": records_to_json([record]),
        "recorded": True,
    }
    return record, row


class _Links:
    """Objects that are links to one small picture."""

    def __init__(self, folder: Path) -> None:
        out = BytesIO()
        Image.new("RGB", (64, 64), (90, 120, 150)).save(out, "WEBP")
        self.body = out.getvalue()
        self._folder, self._count = folder, 0
        self._file = folder

    def add(self, path: Path) -> None:
        """Make the object."""
        if self._count % _LINKS == 0:
            self._file = self._folder / f"picture-{self._count}"
            self._file.write_bytes(self.body)
        self._count += 1
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(self._file, path)


def measure(folder: Path, arguments: Sequence[str]) -> tuple[float, float]:
    """CPU seconds and peak memory (MB) of one command."""
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "flux_pipeline.cli", *arguments]
    starter = [sys.executable, "-S", "-c", _STARTER, *command]
    done = subprocess.run(
        starter, cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(f"{done.stdout}{done.stderr}"[-2000:], file=sys.stderr)
    cpu, peak = done.stderr.splitlines()[-1].split()
    return float(cpu), float(peak) / 1024


# A process begins with the peak of the one that started it: this one has loaded nothing.
_STARTER = """
import os, sys
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(child, 0)
sys.stderr.write(f"\\n{used.ru_utime + used.ru_stime} {used.ru_maxrss}\\n")
sys.exit(os.waitstatus_to_exitcode(status))
"""


def measure_gallery(folder: Path) -> dict[str, float]:
    """Seconds until the gallery of the set shows its images in Chromium, and its heap in MB."""
    program = shutil.which("chromium")
    if program is None:
        return {}
    flags = ["--no-sandbox", "--disable-gpu"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        page = browser.new_page()
        page.set_default_timeout(600_000)
        begun = time.perf_counter()
        page.goto((folder / "data" / "store" / gallery_key(_SET)).as_uri())
        page.wait_for_selector("html[data-ready]")
        figures = {"open_s": time.perf_counter() - begun, "open_heap_mb": _heap(page)}
        begun = time.perf_counter()
        page.get_by_label("Search prompts").fill("harbour 77")
        page.wait_for_function("() => /^[0-9]/.test(document.getElementById('count').textContent)")
        page.wait_for_function("() => location.hash.includes('77')")
        page.wait_for_function("() => /^[0-9]/.test(document.getElementById('count').textContent)")
        figures |= {"search_s": time.perf_counter() - begun, "search_heap_mb": _heap(page)}
        browser.close()
    return {name: round(value, 2) for name, value in figures.items()}


def _heap(page: Page) -> float:
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    return float(session.send("Runtime.getHeapUsage")["usedSize"]) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.large", description=__doc__)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--folder", type=Path, help="Build it here, or use what was built here.")
    parser.add_argument("--unmade", action="store_true", help="Write the prompt set alone.")
    offered = [*_COMMANDS, _GALLERY]
    parser.add_argument("--only", nargs="*", default=offered, choices=offered)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = options.folder or Path(name)
        if not (folder / "configs").exists():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
            (_write_configs if options.unmade else build)(folder, options.images)
            built = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
            print(f"built with {built:.0f} s of CPU", flush=True)
        figures: dict[str, dict[str, float]] = {}
        for what in options.only:
            begun = time.perf_counter()
            if what == _GALLERY:
                figures[what] = measure_gallery(folder)
                print(what, figures[what], flush=True)
                continue
            cpu, memory = measure(folder, _COMMANDS[what])
            figures[what] = {"cpu_s": round(cpu, 2), "peak_mb": round(memory)}
            wall = time.perf_counter() - begun
            print(f"{what:<20}{cpu:>8.2f} s of CPU{wall:>8.1f} s{memory:>8.0f} MB", flush=True)
    if options.keep:
        save("large", {"images": options.images, "commands": figures})


if __name__ == "__main__":
    main()
