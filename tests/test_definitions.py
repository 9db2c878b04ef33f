"""What Dagster loads: from the environment, or with all mistakes in the error; and the tools."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import pytest

from flux_pipeline.definitions import defs
from flux_pipeline.errors import ConfigError

ROOT = Path(__file__).parents[1]
HEAD = "model: lucataco/flux-schnell-lora\n"
ALERT_SENSORS = {"alert_on_failure", "alert_on_late_schedules"}
SENSORS = {*ALERT_SENSORS, "configs_changed"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith(("FLUX_", "REPLICATE_"))]:
        monkeypatch.delenv(name)
    folder = tmp_path / "configs"
    folder.mkdir()
    monkeypatch.setenv("FLUX_CONFIGS", str(folder))
    return folder


def names(definitions: dg.Definitions) -> set[str]:
    return {key.to_user_string() for key in definitions.resolve_all_asset_keys()}


def test_every_file_of_the_folder_is_a_group_of_assets(folder: Path) -> None:
    (folder / "winter.yaml").write_text(HEAD + "prompts: {a: a}\n")
    (folder / "summer.yml").write_text(HEAD + "prompts: {a: a}\nschedule: {cron: '0 6 * * *'}\n")
    definitions = defs()
    assert names(definitions) == {
        f"{name}/{asset}"
        for name in ("winter", "summer")
        for asset in ("prompts", "images", "gallery")
    } | {"gallery", "lineage", "spend"}
    repository = definitions.get_repository_def()
    assert set(repository.job_names) >= {"make_winter", "make_summer", "refresh_shared_assets"}
    schedules = {each.name for each in repository.schedule_defs}
    assert schedules >= {"make_summer_on_time", "refresh_shared_assets_hourly"}
    assert "make_winter_on_time" not in schedules
    assert {each.name for each in repository.sensor_defs} == SENSORS
    dg.Definitions.validate_loadable(definitions)


def test_the_sensor_is_there_where_a_file_needs_it(folder: Path) -> None:
    (folder / "winter.yaml").write_text(HEAD + "automation: on_change\nprompts: {a: a}\n")
    sensors = {each.name: each for each in defs().get_repository_def().sensor_defs}
    assert set(sensors) == {"on_change", *SENSORS}
    assert isinstance(sensors["on_change"], dg.AutomationConditionSensorDefinition)


@pytest.mark.parametrize(("url", "status"), [("", "STOPPED"), ("https://a.example/b", "RUNNING")])
def test_alerts_run_where_a_webhook_is_configured(
    folder: Path, monkeypatch: pytest.MonkeyPatch, url: str, status: str
) -> None:
    assert folder.is_dir()
    monkeypatch.setenv("FLUX_ALERT_URL", url)
    sensors = defs().get_repository_def().sensor_defs
    assert {(each.name, each.default_status.value) for each in sensors} == {
        ("configs_changed", "RUNNING"),
        *((name, status) for name in ALERT_SENSORS),
    }


def test_an_empty_folder_loads_too(folder: Path) -> None:
    assert folder.is_dir()
    assert names(defs()) == {"gallery", "lineage", "spend"}


def test_all_problems_of_all_files_are_in_the_error(folder: Path) -> None:
    (folder / "winter.yaml").write_text(HEAD + "prompts: {a: {prompt: a, num_outputs: 9}}\n")
    (folder / "summer.yaml").write_text(HEAD + "promts: {a: a}\n")
    (folder / "autumn.yaml").write_text("prompts: [")
    with pytest.raises(ConfigError) as raised:
        defs()
    for name in ("winter", "summer", "autumn"):
        assert f"{name}.yaml" in str(raised.value)


def test_all_mistakes_in_variables_are_in_the_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert folder.is_dir()
    monkeypatch.setenv("FLUX_RATE", "fast")
    monkeypatch.setenv("FLUX_UNKNOWN", "perhaps")
    with pytest.raises(ConfigError) as raised:
        defs()
    assert {problem.key for problem in raised.value.problems} == {"FLUX_RATE", "FLUX_UNKNOWN"}


def test_importing_the_definitions_reads_nothing() -> None:
    code = "import flux_pipeline.definitions"
    environ = {**os.environ, "FLUX_CONFIGS": "/no/such/folder", "FLUX_RATE": "fast"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environ, cwd="/")


def test_the_shipped_prompt_sets_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUX_CONFIGS", str(ROOT / "configs"))
    definitions = defs()
    assert {"castle/images", "harbour/images"} <= names(definitions)
    dg.Definitions.validate_loadable(definitions)


def _copy_root(folder: Path) -> Path:
    shared = "configs dagster.yaml workspace.yaml pyproject.toml flux_pipeline README.md"
    for name in shared.split():
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[int, str]]:
    """What each tool says in a copy of the repository's root, all started at once.

    Each in a copy of its own: two processes that create one SQLite instance of Dagster's at the
    same moment get in each other's way ("table already exists").
    """
    pytest.importorskip("dagster_dg_cli", reason="needs the extra ui: uv sync --extra ui")
    commands = (
        "dagster definitions validate -w workspace.yaml",
        "dg check defs",
        "dg list components --json",
    )
    programs = Path(sys.executable).parent
    ours = ("DAGSTER_HOME", "FLUX_", "REPLICATE_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environ |= {"VIRTUAL_ENV": sys.prefix, "COLUMNS": "200"}
    environ["PATH"] = f"{programs}{os.pathsep}{environ.get('PATH', '')}"
    running = {
        command: subprocess.Popen(
            [str(programs / command.split()[0]), *command.split()[1:]],
            cwd=_copy_root(tmp_path_factory.mktemp("root")),
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command in commands
    }
    said = {}
    try:
        for command, process in running.items():
            output, _ = process.communicate(timeout=600)
            said[command] = process.returncode, output
    finally:
        for process in running.values():
            process.kill()
    return said


def test_dagster_finds_the_definitions_by_the_workspace(
    tools: Mapping[str, tuple[int, str]],
) -> None:
    code, said = tools["dagster definitions validate -w workspace.yaml"]
    assert code == 0, said
    assert "Validation successful for code location flux_pipeline" in said


def test_dg_finds_the_definitions_by_the_project(tools: Mapping[str, tuple[int, str]]) -> None:
    code, said = tools["dg check defs"]
    assert code == 0, said
    assert "All definitions loaded successfully." in said


def test_dg_finds_the_component_by_the_entry_point(tools: Mapping[str, tuple[int, str]]) -> None:
    code, said = tools["dg list components --json"]
    assert code == 0, said
    assert "flux_pipeline.PromptSet" in said
