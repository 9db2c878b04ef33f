"""Runs that are killed, terminated and started again: whatever Dagster does, nothing is paid twice.

Its three retry mechanisms are the op's policy (there is none), retries of runs (of crashed ones
alone), and automation. Here the run's process dies while its step lives on, and the web interface
ends a run politely and by force.
"""

import json
import multiprocessing
import os
import signal
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
from tests.servers.processes import Running, start_program

ROOT = Path(__file__).parents[2]
THREE = "prompts: {a: a, b: b, c: c}"
"""As many as are polled often while the provider's time is not known: see ``SLOW``."""
ALL = range_tags(dg.PartitionKeyRange("a", "c"))
INSTANCE = """
telemetry: {enabled: false}
nux: {enabled: false}
run_coordinator: {module: dagster.core.run_coordinator, class: DefaultRunCoordinator}
"""
"""Without the queue, which needs the daemon."""
CODE_LOCATION = """
from pathlib import Path
import dagster as dg
from flux_pipeline.defs.build import build_definitions
from flux_pipeline.prompts import load_prompt_set
from flux_pipeline.resources import ImageProducer
built = build_definitions([load_prompt_set(Path(PROMPTS))], ImageProducer(**FIELDS))
spread = dg.define_asset_job("spread", [f"{SET}/prompts", f"{SET}/images"],
    executor_def=dg.multiprocess_executor.configured({"start_method": {"forkserver": {}}}))
defs = dg.Definitions(assets=built.assets, asset_checks=built.asset_checks,
    jobs=[*built.jobs, spread], resources=built.resources, executor=dg.in_process_executor)
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


def write_code_location(runner: AssetRunner) -> Path:
    path = runner.folder / "code_location.py"
    fields = runner.resource.model_dump(exclude_defaults=True)
    path.write_text(
        f"SET, PROMPTS, FIELDS = {runner.name!r}, {runner.write(THREE).path!r}, {fields!r}\n"
        + CODE_LOCATION
    )
    return path


def start(runner: AssetRunner, home: Path, entry: str, *arguments: str | Path) -> Running:
    """Start a program of Dagster's in a folder of its own, with what it prints."""
    folder = runner.folder / entry.partition(":")[0]
    folder.mkdir()
    environ = {"DAGSTER_HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    return start_program(list(map(str, arguments)), folder=folder, environ=environ, entry=entry)


def wait_for(what: Callable[[], Any], program: Running, seconds: float = 300) -> Any:
    """Other processes: there is no clock to pass in."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, what
        assert program.process.exitcode is None, program.errors.read_text()
        time.sleep(0.1)
    return found


def living_processes(instance: dg.DagsterInstance, run_id: str) -> list[int]:
    """The processes of a run and of its steps that have not ended."""
    events = (entry.dagster_event for entry in instance.all_logs(run_id))
    noted = (getattr(each and each.event_specific_data, "metadata", {}) for each in events)
    found = {
        int(str(each["pid"].value)) for each in noted if isinstance(each, dict) and "pid" in each
    }
    return [each for each in sorted(found - {os.getpid()}) if is_alive(each)]


def is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def kill(*processes: int) -> None:
    for each in processes:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


def test_a_retry_pays_nothing_twice_while_the_step_of_the_killed_run_lives_on(
    runner: AssetRunner, home: Path, persistent: dg.DagsterInstance
) -> None:
    runner.instance, runner.options = persistent, SLOW
    code = write_code_location(runner)
    chosen = ["-f", code, "-j", "spread", "--tags", json.dumps(dict(ALL))]
    worker = start(runner, home, "dagster._cli:main", "job", "execute", *chosen)
    steps: list[int] = []
    try:
        wait_for(lambda: runner.usage().creates_accepted >= 3, worker)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        (crashed,) = runner.instance.get_runs()
        steps = living_processes(persistent, crashed.run_id)
        assert steps
        job = runner.definitions(runner.write(THREE)).resolve_job_def(runner.keys.job)
        runner.speed_up()
        retry = job.execute_in_process(
            instance=runner.instance,
            run_config=QUIET,
            tags={**ALL, "dagster/parent_run_id": crashed.run_id},
        )
        assert retry.success
    finally:
        worker.process.kill()
        kill(*steps)
    assert set(runner.statuses(runner.write(THREE)).values()) == {"MATERIALIZED"}
    charged = runner.usage()
    assert (charged.creates_accepted, charged.distinct_inputs) == (3, 3)


def serve_code() -> None:
    """Dagster's code server, whose runs are processes from the fork server too."""
    from dagster._cli import main

    from tests.servers.fork_server import context

    real = multiprocessing.get_context
    multiprocessing.get_context = lambda method=None: (  # type: ignore[assignment]
        context() if method == "spawn" else real(method)
    )
    main()


class WebInterface:
    """A webserver on this code location, whose runs are processes of their own."""

    def __init__(self, runner: AssetRunner, home: Path) -> None:
        port, self.port = free_port(), free_port()
        code = write_code_location(runner)
        served = ["api", "grpc", "-f", code, "-h", "127.0.0.1", "-p", str(port)]
        self.code_server = start(runner, home, f"{__name__}:serve_code", *served)
        shown = ["--grpc-host", "127.0.0.1", "--grpc-port", str(port), "-p", str(self.port)]
        self.program = start(runner, home, "dagster_webserver.cli:main", *shown)

    def end(self) -> None:
        """End it and its code server."""
        for program in (self.program, self.code_server):
            program.process.kill()
            program.wait()

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
        place = wait_for(self.repository, self.program)
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
    ui = WebInterface(runner, home)
    try:
        politely = ui.launch(runner.keys.job, dg.PartitionKeyRange("a", "b"))
        by_force = ui.launch(runner.keys.job, dg.PartitionKeyRange("c", "c"))
        # All: one that is created later waits as long as the others took by the provider's time.
        wait_for(lambda: runner.usage().creates_accepted >= 3, ui.program)
        ui.terminate(politely, "SAFE_TERMINATE")
        ui.terminate(by_force, "MARK_AS_CANCELED_IMMEDIATELY")
        for run_id in (politely, by_force):
            wait_for(lambda run_id=run_id: is_canceled(runner.instance, run_id), ui.program)
        runner.speed_up()
        assert runner.run(runner.write(THREE), keys=["a", "c"]).success
    finally:
        ui.end()
        for run in persistent.get_runs():
            kill(*living_processes(persistent, run.run_id))  # what lives on
    charged = runner.usage()
    assert (charged.creates_accepted, charged.distinct_inputs) == (3, 3)
    assert set(runner.statuses(runner.write(THREE)).values()) == {"MATERIALIZED"}


def is_canceled(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is not None and run.status is dg.DagsterRunStatus.CANCELED
