"""Runs in this process: seen in the UI as if launched there, and ended cleanly by a signal."""

import os
import signal
import socket
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from flux_pipeline.defs.build import build_definitions
from flux_pipeline.defs.keys import CODE_LOCATION
from flux_pipeline.defs.launch import (
    Launched,
    launch_job,
    launch_set,
    open_instance,
)
from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.produce.report import Result, observing
from flux_pipeline.prompts import load_prompt_set
from flux_pipeline.resources import ImageProducer
from tests.defs.asset_runner import AssetRunner
from tests.servers.fork_server import context

ROOT = Path(__file__).parents[2]
FOUR = "prompts: {castle: a castle, harbour: a harbour, moon: the moon, zoo: a zoo}"
NO_PROCESS = 2**22 + 1
"""A process id above all that Linux gives: one of an ended process may be given again."""


def run_of(instance: dg.DagsterInstance, launched: Launched) -> dg.DagsterRun:
    run = instance.get_run_by_id(launched.run_id)
    assert run is not None
    return run


def test_a_run_is_linked_to_the_code_location(runner: AssetRunner) -> None:
    winter = runner.write(FOUR)
    (launched,) = launch_set(runner.instance, runner.definitions(winter), winter)
    assert launched == Launched(launched.run_id, success=True)
    run = run_of(runner.instance, launched)
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert run.job_name == runner.keys.job
    assert run.remote_job_origin is not None
    assert run.remote_job_origin.location_name == "flux_pipeline"
    assert run.remote_job_origin.repository_origin.get_label() == "__repository__@flux_pipeline"
    assert run.tags["dagster/code_location"] == "flux_pipeline"
    assert set(runner.statuses(winter).values()) == {"MATERIALIZED"}


def test_the_code_location_has_one_name_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    (entry,) = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    assert project["code_location_name"] == CODE_LOCATION
    assert entry["python_module"]["location_name"] == CODE_LOCATION
    assert entry["python_module"]["module_name"] == project["code_location_target_module"]


def test_a_run_launched_here_is_never_retried(runner: AssetRunner) -> None:
    winter = runner.write(FOUR)
    (launched,) = launch_set(runner.instance, runner.definitions(winter), winter, ["castle"])
    assert run_of(runner.instance, launched).tags["dagster/max_retries"] == "0"


def test_scattered_partitions_are_several_runs(runner: AssetRunner) -> None:
    winter = runner.write(FOUR)
    launched = launch_set(runner.instance, runner.definitions(winter), winter, {"zoo", "castle"})
    assert len(launched) == 2
    assert list(runner.statuses(winter).values()) == [
        "MATERIALIZED",
        "MISSING",
        "MISSING",
        "MATERIALIZED",
    ]
    assert runner.usage().creates_accepted == 2


def test_a_failed_run_says_why_and_the_next_is_started(runner: AssetRunner) -> None:
    runner.serve(FaultPlan(outcome={"failed_permanent": 1.0}, only_prompts="castle", cap=100))
    winter = runner.write(FOUR)
    failed, made = launch_set(
        runner.instance, runner.definitions(winter), winter, ["castle", "moon"]
    )
    assert not failed.success
    assert failed.reason.startswith("1 of 1 partition failed\ncastle: ")
    assert made.success


def test_observing_gives_every_result(runner: AssetRunner) -> None:
    winter = runner.write(FOUR)
    seen: list[Result] = []
    with observing(seen.append):
        launch_set(runner.instance, runner.definitions(winter), winter)
    assert sorted(result.request.source.prompt_name for result in seen) == [
        "castle",
        "harbour",
        "moon",
        "zoo",
    ]


def test_nothing_is_said_on_the_terminal(
    runner: AssetRunner, capfd: pytest.CaptureFixture[str]
) -> None:
    runner.serve(FaultPlan(outcome={"failed_permanent": 1.0}, cap=100))
    winter = runner.write("prompts: {castle: a castle}")
    launch_set(runner.instance, runner.definitions(winter), winter)
    assert capfd.readouterr() == ("", "")


def test_any_job_can_be_launched(runner: AssetRunner) -> None:
    winter = runner.write(FOUR)
    assert launch_job(runner.instance, runner.definitions(winter), "refresh_shared_assets").success


def test_days_are_those_that_have_begun(runner: AssetRunner) -> None:
    diary = runner.write("prompts: {a: 'on {date}'}\npartitions: {by: day, start: 2026-11-01}\n")
    definitions = runner.definitions(diary)
    assert launch_set(runner.instance, definitions, diary, ["2999-01-01"]) == []
    (launched,) = launch_set(runner.instance, definitions, diary, ["2026-11-01"])
    assert launched.success


def a_run(runner: AssetRunner, process: int, *, copied: bool = False) -> dg.DagsterRun:
    """A run that seems to be under way in some process of this host."""
    definitions = runner.definitions(runner.write(FOUR))
    run = runner.instance.create_run_for_job(
        definitions.resolve_job_def("refresh_shared_assets"), status=dg.DagsterRunStatus.STARTED
    )
    run_id = "another run" if copied else run.run_id
    place = {"flux/process": f"{socket.gethostname()}:{process}:{run_id}"}
    runner.instance.add_run_tags(run.run_id, place)
    return run


def test_a_run_whose_process_is_gone_is_canceled_by_the_next(runner: AssetRunner) -> None:
    dead = a_run(runner, NO_PROCESS)
    copied = a_run(runner, NO_PROCESS, copied=True)
    alive = a_run(runner, os.getpid())
    init = a_run(runner, 1)
    launch_job(runner.instance, runner.definitions(runner.write(FOUR)), "refresh_shared_assets")
    found = [runner.instance.get_run_by_id(run.run_id) for run in (dead, copied, alive, init)]
    statuses = [run.status for run in found if run is not None]
    assert statuses == [dg.DagsterRunStatus.CANCELED, *[dg.DagsterRunStatus.STARTED] * 3]


def launch_two(folder: Path, home: Path, file: Path, origin: str) -> None:
    """Launch two partitions, in a process of its own; exits with 130 if it is interrupted."""
    winter = load_prompt_set(file)
    resource = ImageProducer(
        provider=origin,
        api_key="a-key",
        store=f"file:{folder}/store",
        ledger=f"sqlite:///{folder}/ledger.db",
        settle_seconds=0.0,
    )
    with open_instance(home) as instance:
        try:
            launch_set(instance, build_definitions([winter], resource), winter, ["castle", "moon"])
        except KeyboardInterrupt:
            sys.exit(130)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\nnux: {enabled: false}\n")
    return folder


@pytest.fixture(scope="module")
def persistent(home: Path) -> Iterator[dg.DagsterInstance]:
    """An instance that another process can use."""
    with open_instance(home) as opened:
        yield opened


def test_a_signal_cancels_the_run_and_what_was_paid_is_resumed(
    runner: AssetRunner, persistent: dg.DagsterInstance, home: Path
) -> None:
    """Both signals are tested in ``tests/cli/test_interrupts.py``."""
    runner.instance = persistent
    runner.options = EmulatorOptions(latency_median=600.0, latency_spread=0.0)
    origin = runner.server.origin
    winter = runner.write(FOUR)
    process = context().Process(
        target=launch_two, args=(runner.folder, home, Path(winter.path), origin)
    )
    process.start()
    try:
        deadline = time.monotonic() + 300
        while runner.usage().creates_accepted < 1:
            assert time.monotonic() < deadline
            assert process.is_alive()
            time.sleep(0.05)  # another process: there is no clock to pass in
        os.kill(process.pid, signal.SIGTERM)
        process.join(300)
    finally:
        process.kill()
        process.join()
    assert process.exitcode == 130
    (run,) = [run for run in runner.instance.get_runs() if run.job_name == runner.keys.job]
    assert run.status is dg.DagsterRunStatus.CANCELED  # and no second run was started
    runner.serve(FaultPlan(), later=601)
    launch_set(runner.instance, runner.definitions(winter), winter, ["castle"])
    assert runner.statuses(winter)["castle"] == "MATERIALIZED"
    assert runner.usage().creates_accepted == 1
