"""What a step of the command's run leaves as its stderr, and by what."""

import logging
import os
import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.compute_log_manager import ComputeIOType
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager

from flux_pipeline.defs.compute_logs import LoggedLines
from flux_pipeline.defs.launch import launch_set, open_instance
from tests.defs.asset_runner import AssetRunner

LOCAL = "module: dagster._core.storage.local_compute_log_manager, class: LocalComputeLogManager"
NONE = "module: dagster._core.storage.noop_compute_log_manager, class: NoOpComputeLogManager"


def stderr_of(manager: dg.DagsterInstance, run_id: str) -> str:
    """The stderr of a run's one step, as the web interface reads it."""
    logs = manager.compute_log_manager
    key = next(
        event.dagster_event.logs_captured_data.file_key
        for event in manager.all_logs(run_id, of_type=dg.DagsterEventType.LOGS_CAPTURED)
        if event.dagster_event
    )
    log_key = logs.build_log_key_for_run(run_id, key)
    assert logs.is_capture_complete(log_key)
    found = logs.get_log_data_for_type(log_key, ComputeIOType.STDERR, offset=0, max_bytes=None)
    return (found[0] or b"").decode()


@dg.op
def talk() -> None:
    logging.getLogger("somebody").warning("the disk is nearly full: 城堡")
    os.write(2, b"of a library\n")


@dg.job
def talking() -> None:
    talk()


def test_what_a_step_logs_is_shown_by_dagsters_own_web_interface(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with open_instance(tmp_path) as instance:
        assert isinstance(instance.compute_log_manager, LoggedLines)
        result = talking.execute_in_process(instance=instance)
    with dg.DagsterInstance.from_config(str(tmp_path)) as dagsters:
        assert type(dagsters.compute_log_manager) is LocalComputeLogManager
        (line,) = stderr_of(dagsters, result.run_id).splitlines()
    assert line.endswith("WARNING somebody: the disk is nearly full: 城堡")
    assert "of a library\n" in capfd.readouterr().err  # all of it is on the terminal
    assert not [each for each in logging.getLogger().handlers if "compute_logs" in str(each)]


def test_a_run_starts_no_process(runner: AssetRunner, tmp_path: Path) -> None:
    started: list[object] = []

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event in {"subprocess.Popen", "os.fork", "os.posix_spawn"}:
            started.append(arguments)

    prompt_set = runner.write("prompts: {castle: a castle}")
    with open_instance(tmp_path / "home") as instance:
        sys.addaudithook(note)
        (launched,) = launch_set(instance, runner.definitions(prompt_set), prompt_set)
        started_by_run = [each for each in started if "git" not in str(each)]
        assert launched.success
        assert stderr_of(instance, launched.run_id) == ""
    assert started_by_run == []


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ("telemetry: {enabled: false}\n", LoggedLines),
        (f"compute_logs: {{{LOCAL}, config: {{base_dir: BASE}}}}\n", LocalComputeLogManager),
        (f"compute_logs: {{{NONE}}}\n", NoOpComputeLogManager),
    ],
)
def test_the_logs_that_dagster_yaml_names_are_used(
    tmp_path: Path, settings: str, kind: type
) -> None:
    (tmp_path / "dagster.yaml").write_text(settings.replace("BASE", str(tmp_path / "logs")))
    with open_instance(tmp_path) as instance:
        assert type(instance.compute_log_manager) is kind
