"""A whole cluster on one machine, started as docs/cluster.md shows it: what it names, and no more.

Postgres, Redis and S3 are real servers; the provider is the emulator, which counts what it is
asked. Every program is a process group of its own and dies as one.
"""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from tests import documents
from tests.servers.ports import free_port
from tests.servers.postgres import running_postgres
from tests.servers.redis import running_redis
from tests.servers.s3 import running_s3
from tests.ui.studio import PROGRAMS, ROOT, Studio

DOCUMENT = "docs/cluster.md"
RATE = 300
"""Creates a minute, over all workers."""
WORKERS = ("worker-1", "worker-2", "worker-3")
"""One more than the pool lets make images: a rescue must find a free one."""
_START_SECONDS = 600

READY = """{workspaceOrError {... on Workspace {locationEntries {
  locationOrLoadError {__typename}
}}}}"""
RELOAD = """mutation {reloadRepositoryLocation(repositoryLocationName: "flux_pipeline") {
  ... on WorkspaceLocationEntry {locationOrLoadError {
    __typename ... on PythonError {message}
  }}
}}"""
BACKFILL = """mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    ... on LaunchBackfillSuccess {backfillId}
    ... on PythonError {message}
  }
}"""
STATUS = """query($backfill: String!) {
  partitionBackfillOrError(backfillId: $backfill) {... on PartitionBackfill {status}}
}"""
TERMINATE = "mutation($run: String!) {terminateRun(runId: $run) {__typename}}"
RUNS = """{runsOrError {... on Runs {results {
  runId status startTime endTime tags {key value}
  eventConnection {events {... on MessageEvent {message}}}
}}}}"""


@dataclass(frozen=True)
class Worker:
    name: str
    process: "subprocess.Popen[bytes]"

    def kill(self) -> None:
        """End it with all its children, as a machine that goes dark."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass(frozen=True)
class Run:
    id: str
    status: str
    tags: dict[str, str]
    said: str
    """All messages of its log."""


@dataclass(frozen=True)
class Cluster(Studio):
    environment: dict[str, str]
    workers: tuple[Worker, ...]

    def log(self) -> str:
        """The last lines of every program."""
        return "\n".join(
            f"--- {path.stem}\n{path.read_text(errors='replace')[-1500:]}"
            for path in sorted(self.folder.glob("*.log"))
        )

    def load(self, prompt_set: str, text: str) -> None:
        """Write a prompt set's file and have the code location read it; workers are not told."""
        (self.folder / "configs" / f"{prompt_set}.yaml").write_text(text)
        loaded = self.ask(RELOAD)["reloadRepositoryLocation"]["locationOrLoadError"]
        assert loaded["__typename"] == "RepositoryLocation", loaded

    def backfill(self, prompt_set: str, **tags: str) -> str:
        """Ask for all partitions of a prompt set, with tags for every run; the backfill's id."""
        params = {
            "assetSelection": [{"path": [prompt_set, name]} for name in ("prompts", "images")],
            "allPartitions": True,
            "tags": [{"key": f"dagster/{key}", "value": value} for key, value in tags.items()],
        }
        launched = self.ask(BACKFILL, params=params)["launchPartitionBackfill"]
        backfill = launched.get("backfillId")
        assert isinstance(backfill, str), launched
        return backfill

    def terminate(self, run: Run) -> None:
        """Ask for the end of a run, as the web interface does."""
        answer = self.ask(TERMINATE, run=run.id)["terminateRun"]
        assert answer["__typename"] == "TerminateRunSuccess", answer

    def end(self, backfill: str, seconds: float) -> str:
        """Wait for the end of a backfill with all its runs; how it ended."""

        def status() -> str | None:
            now: str = self.ask(STATUS, backfill=backfill)["partitionBackfillOrError"]["status"]
            return None if now in {"REQUESTED", "FAILING", "CANCELING"} else now

        return self.wait(status, "end of the backfill", seconds)

    def runs(self, backfill: str) -> list[Run]:
        """The runs of a backfill with those that were started again, the oldest first."""
        found: list[dict[str, Any]] = self.ask(RUNS)["runsOrError"]["results"]
        runs = []
        for each in reversed(found):
            tags = {tag["key"].removeprefix("dagster/"): tag["value"] for tag in each["tags"]}
            if tags.get("backfill") == backfill:
                events = each["eventConnection"]["events"]
                said = "\n".join(event.get("message", "") for event in events)
                runs.append(Run(each["runId"], each["status"], tags, said))
        return runs

    def worker_of(self, run: Run) -> Worker | None:
        """Whose log has this run; None before it has begun."""
        for worker in self.workers:
            if run.id in (self.folder / f"{worker.name}.log").read_text(errors="replace"):
                return worker
        return None

    def command(self, *arguments: str) -> str:
        """Run ``flux-pipeline`` with the cluster's environment; what it prints."""
        done = subprocess.run(
            [PROGRAMS / "flux-pipeline", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr


@contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Start all servers and programs on this folder; stop all of them."""
    options = EmulatorOptions(
        latency_median=3.0, render="cheap", creates_per_minute=None, calls_per_minute=None
    )
    with (
        running_postgres() as postgres,
        running_redis() as redis,
        running_s3() as s3,
        EmulatorServer(options) as provider,
    ):
        dagster = postgres.create_database().replace("postgresql:", "postgresql+psycopg2:")
        settings = {
            "DAGSTER_HOME": str(folder / "cluster"),
            "DAGSTER_POSTGRES_URL": dagster,
            "CELERY_BROKER_URL": f"{redis}/0",
            "CELERY_RESULT_BACKEND": f"{redis}/1",
            "FLUX_PROVIDER": f"{provider.origin}/replicate",
            "FLUX_API_KEY": "key-of-the-cluster",
            "FLUX_LEDGER": postgres.create_database(),
            "FLUX_STORE": f"s3://{s3.new_bucket()}/pictures",
            "FLUX_RATE": str(RATE),
        }
        assert set(settings) == exported()
        ours = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environment = {**ours, "PYTHONPATH": str(ROOT), **s3.environment(), **settings}
        yield from _programs(folder, environment, provider)


def exported() -> set[str]:
    """The variables that the document sets."""
    words = shlex.split(_shell("export "))
    return {word.partition("=")[0] for word in words if "=" in word}


def commands() -> list[list[str]]:
    """The commands that the document starts: tables, code, web interface, daemon, worker."""
    return [shlex.split(line) for line in _shell("dagster ").splitlines()]


def _shell(start: str) -> str:
    (text,) = [b.text for b in documents.blocks("sh", DOCUMENT) if b.text.startswith(start)]
    return text


def _programs(
    folder: Path, environment: dict[str, str], provider: EmulatorServer
) -> Iterator[Cluster]:
    (folder / "configs").mkdir()
    ports = {"4000": str(free_port()), "3000": str(free_port())}
    for block in documents.blocks("yaml", DOCUMENT):
        if block.path.startswith("cluster/"):
            (folder / block.path).parent.mkdir(exist_ok=True)
            (folder / block.path).write_text(block.text.replace("4000", ports["4000"]))
    tables, code, web, daemon, worker = [
        [ports.get(word, word) for word in command] for command in commands()
    ]
    subprocess.run([PROGRAMS / tables[0], *tables[1:]], cwd=folder, env=environment, check=True)
    started = []
    try:
        for name, command in (
            ("code", code),
            ("web", web),
            ("daemon", daemon),
            *((name, [*worker, "--hostname", f"{name}@%h"]) for name in WORKERS),
        ):
            started.append(Worker(name, _start(name, command, folder, environment)))
        url = f"http://127.0.0.1:{ports['3000']}"
        cluster = Cluster(folder, url, provider, environment, tuple(started[-len(WORKERS) :]))
        cluster.wait(lambda: _is_ready(cluster), "web interface with its code", _START_SECONDS)
        yield cluster
    finally:
        for each in started:
            each.kill()


def _start(
    name: str, command: list[str], folder: Path, environment: dict[str, str]
) -> "subprocess.Popen[bytes]":
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, PROGRAMS / command[0], *command[1:]],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _is_ready(cluster: Cluster) -> bool | None:
    try:
        entries = cluster.ask(READY)["workspaceOrError"]["locationEntries"]
    except httpx.TransportError:
        return None
    kinds = [(entry["locationOrLoadError"] or {}).get("__typename") for entry in entries]
    return kinds == ["RepositoryLocation"] or None
