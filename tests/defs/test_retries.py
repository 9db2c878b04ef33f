"""Runs that are killed, terminated and started again: whatever Dagster does, nothing is paid twice.

Its three retry mechanisms are the op's policy (there is none), retries of runs (of crashed ones
alone), and automation. Here the run's process dies while its step lives on, and the web interface
ends a run politely and by force.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import dagster as dg
import pytest
import yaml

from flux_pipeline.defs.build import build_definitions
from flux_pipeline.defs.launch import open_instance
from flux_pipeline.defs.partitions import range_tags
from flux_pipeline.prompts import build_prompt_set
from flux_pipeline.resources import ImageProducer
from tests.defs.asset_runner import QUIET, SLOW, AssetRunner
from tests.servers.ports import free_port

ROOT = Path(__file__).parents[2]
SIX = "prompts: {a: a, b: b, c: c, d: d, e: e, f: f}"
ALL = range_tags(dg.PartitionKeyRange("a", "f"))
INSTANCE = """
telemetry: {enabled: false}
nux: {enabled: false}
run_coordinator: {module: dagster.core.run_coordinator, class: DefaultRunCoordinator}
"""
"""Without the queue, which needs the daemon."""
CODE_LOCATION = """
import os
from pathlib import Path
import dagster as dg
from flux_pipeline.defs.build import build_definitions
from flux_pipeline.prompts import load_prompt_set
from flux_pipeline.resources import ImageProducer
resource = ImageProducer(provider=os.environ["ORIGIN"], api_key="a-key", settle_seconds=0.0,
    store=f"file:{os.environ['FOLDER']}/store", ledger=f"sqlite:///{os.environ['FOLDER']}/ledger.db")
built = build_definitions([load_prompt_set(Path(os.environ["PROMPTS"]))], resource)
defs = dg.Definitions(assets=built.assets, asset_checks=built.asset_checks, jobs=built.jobs,
    resources=built.resources,
    executor=dg.multiprocess_executor if os.environ.get("SPREAD") else dg.in_process_executor)
del built  # a module holds one
"""


def test_a_crashed_run_is_started_again_and_a_failed_one_is_not(tmp_path: Path) -> None:
    shipped = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    assert shipped["run_retries"] == {
        "enabled": True,
        "max_retries": 2,
        "retry_on_asset_or_op_failure": False,
    }
    assert shipped["run_monitoring"]["enabled"]
    assert shipped["run_monitoring"]["max_runtime_seconds"] >= 3600
    with open_instance(tmp_path) as plain:  # no such file there: Dagster's own defaults
        assert plain.run_retries_enabled is False


def test_no_op_has_a_retry_policy() -> None:
    document = {"model": "lucataco/flux-schnell-lora", "prompts": {"a": "a"}}
    built = build_definitions([build_prompt_set("winter", document)], ImageProducer())
    jobs = built.get_repository_def().get_all_jobs()
    nodes = [node for job in jobs for node in job.all_node_defs]
    assert len(nodes) >= 4
    for job in jobs:
        assert job.get_retry_policy_for_handle is not None
        for node in job.graph.nodes:
            assert node.retry_policy is None, node.name
    for node in nodes:
        assert getattr(node, "retry_policy", None) is None, node.name


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "dagster.yaml").write_text(INSTANCE)
    return folder


@pytest.fixture
def persistent(home: Path) -> Iterator[dg.DagsterInstance]:
    with open_instance(home) as opened:
        yield opened


def environment(runner: AssetRunner, home: Path, **more: str) -> dict[str, str]:
    (runner.folder / "code_location.py").write_text(CODE_LOCATION)
    return {
        **os.environ,
        "ORIGIN": runner.server.origin,
        "FOLDER": str(runner.folder),
        "PROMPTS": runner.write(SIX).path,
        "DAGSTER_HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        **more,
    }


def wait_for(
    what: Callable[[], Any], process: subprocess.Popen[bytes], seconds: float = 300
) -> Any:
    """Other processes: there is no clock to pass in."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, what
        assert process.poll() is None, "the process ended before"
        time.sleep(0.1)
    return found


def members(session: int) -> list[int]:
    """The living processes of a session, besides the one that began it."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == session:
            continue
        try:
            state, _, _, own, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
        if int(own) == session and state != "Z":
            found.append(int(folder.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_retry_pays_nothing_twice_while_the_step_of_the_killed_run_lives_on(
    runner: AssetRunner, home: Path, persistent: dg.DagsterInstance
) -> None:
    runner.instance, runner.options = persistent, SLOW
    environ = environment(runner, home, SPREAD="1")
    command = ["-m", "dagster", "job", "execute", "-f", runner.folder / "code_location.py"]
    worker = subprocess.Popen(
        [sys.executable, *command, "-j", runner.keys.job, "--tags", json.dumps(dict(ALL))],
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: runner.usage().creates_accepted >= 6, worker)
        worker.kill()
        worker.wait()
        assert members(worker.pid)
        (crashed,) = runner.instance.get_runs()
        job = runner.definitions(runner.write(SIX)).resolve_job_def(runner.keys.job)
        runner.speed_up()
        retry = job.execute_in_process(
            instance=runner.instance,
            run_config=QUIET,
            tags={**ALL, "dagster/parent_run_id": crashed.run_id},
        )
        assert retry.success
    finally:
        with suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    assert set(runner.statuses(runner.write(SIX)).values()) == {"MATERIALIZED"}
    charged = runner.usage()
    assert (charged.creates_accepted, charged.distinct_inputs) == (6, 6)


class WebInterface:
    """A webserver on this code location, whose runs are processes of their own."""

    def __init__(self, environ: dict[str, str], file: Path) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dagster_webserver", "-f", file, "-p", str(self.port)],
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def end(self) -> None:
        """End it with its code server, and with runs that live on."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ask(self, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        url = f"http://127.0.0.1:{self.port}/graphql"
        with urlopen(
            Request(url, body, {"content-type": "application/json"}), timeout=300
        ) as reply:
            return json.load(reply)["data"]

    def repository(self) -> dict[str, str] | None:
        try:
            found = self.ask(
                "{ repositoriesOrError { ... on RepositoryConnection { nodes"
                " { name location { name } } } } }"
            )
        except (URLError, ConnectionError):
            return None
        nodes = found["repositoriesOrError"].get("nodes")
        if not nodes:
            return None
        place = nodes[0]
        return {
            "repositoryName": place["name"],
            "repositoryLocationName": place["location"]["name"],
        }

    def launch(self, job: str, keys: dg.PartitionKeyRange) -> str:
        place = wait_for(self.repository, self.process)
        tags = [{"key": key, "value": value} for key, value in range_tags(keys).items()]
        launched = self.ask(
            "mutation($p: ExecutionParams!) { launchRun(executionParams: $p) { __typename"
            " ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }",
            p={
                "selector": {"jobName": job, **place},
                "mode": "default",
                "executionMetadata": {"tags": tags},
            },
        )["launchRun"]
        return str(launched["run"]["runId"])

    def terminate(self, run_id: str, policy: str) -> None:
        ended = self.ask(
            "mutation($r: String!, $p: TerminateRunPolicy) {"
            " terminateRun(runId: $r, terminatePolicy: $p) { __typename } }",
            r=run_id,
            p=policy,
        )
        assert ended["terminateRun"]["__typename"] == "TerminateRunSuccess"


def test_runs_ended_in_the_web_interface_are_resumed_by_id_and_nothing_is_paid_twice(
    runner: AssetRunner, home: Path, persistent: dg.DagsterInstance
) -> None:
    runner.instance, runner.options = persistent, SLOW
    ui = WebInterface(environment(runner, home), runner.folder / "code_location.py")
    try:
        politely = ui.launch(runner.keys.job, dg.PartitionKeyRange("a", "c"))
        by_force = ui.launch(runner.keys.job, dg.PartitionKeyRange("d", "f"))
        # All: one that is created later waits as long as the others took by the provider's time.
        wait_for(lambda: runner.usage().creates_accepted >= 6, ui.process)
        ui.terminate(politely, "SAFE_TERMINATE")
        ui.terminate(by_force, "MARK_AS_CANCELED_IMMEDIATELY")
        for run_id in (politely, by_force):
            wait_for(lambda run_id=run_id: is_canceled(runner.instance, run_id), ui.process)
        runner.speed_up()
        assert runner.run(runner.write(SIX), keys=["a", "f"]).success
    finally:
        ui.end()
    charged = runner.usage()
    assert (charged.creates_accepted, charged.distinct_inputs) == (6, 6)
    assert set(runner.statuses(runner.write(SIX)).values()) == {"MATERIALIZED"}


def is_canceled(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is not None and run.status is dg.DagsterRunStatus.CANCELED
