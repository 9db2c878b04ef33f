"""The definitions by the environment, with all mistakes in the error; and by Dagster's tools."""

import gc
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import dagster as dg
import pytest

from benchmarks.load import write_sets
from benchmarks.plain_assets import build_plain, shape_of
from flux_pipeline.definitions import defs
from flux_pipeline.defs.build import without_beta_warnings
from flux_pipeline.errors import ConfigError
from tests.servers.processes import start_program

ROOT = Path(__file__).parents[1]
HEAD = "model: lucataco/flux-schnell-lora\n"
ALERT_SENSORS = {"alert_on_failure", "alert_on_late_schedules"}
SENSORS = {*ALERT_SENSORS, "configs_changed"}


@pytest.fixture(autouse=True)
def nothing_is_left_out() -> Iterator[None]:
    """What the definitions keep from being looked through is looked through again."""
    yield
    gc.unfreeze()


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


def test_the_benchmark_of_loading_compares_definitions_of_the_same_shape(folder: Path) -> None:
    write_sets(folder.parent, sets=2, prompts=3, form="line")
    with without_beta_warnings():
        plain = build_plain(2, 3).get_repository_def()
    assert shape_of(defs().get_repository_def()) == shape_of(plain)


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


def import_anew() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "flux_pipeline"]:
        del sys.modules[name]
    import_module("flux_pipeline.definitions")


def test_importing_the_definitions_reads_nothing(tmp_path: Path) -> None:
    program = start_program(
        [],
        folder=tmp_path,
        environ={"FLUX_CONFIGS": "/no/such/folder", "FLUX_RATE": "fast"},
        entry=f"{__name__}:import_anew",
    )
    code, _ = program.wait()
    assert code == 0, program.errors.read_text()


def test_the_shipped_prompt_sets_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUX_CONFIGS", str(ROOT / "configs"))
    definitions = defs()
    assert {"castle/images", "harbour/images"} <= names(definitions)
    dg.Definitions.validate_loadable(definitions)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository's root as far as Dagster's tools look at it."""
    pytest.importorskip("dagster_dg_cli", reason="needs the extra ui: uv sync --extra ui")
    folder = tmp_path_factory.mktemp("root")
    shared = "configs dagster.yaml workspace.yaml pyproject.toml flux_pipeline README.md"
    for name in shared.split():
        (folder / name).symlink_to(ROOT / name)
    return folder


def run_tool(root: Path, entry: str, command: str) -> str:
    environ = {"VIRTUAL_ENV": sys.prefix, "COLUMNS": "200"}
    program = start_program(command.split(), folder=root, environ=environ, entry=entry)
    code, printed = program.wait()
    printed += program.errors.read_text()
    assert code == 0, printed
    return printed


def test_dagster_finds_the_definitions_by_the_workspace(root: Path) -> None:
    printed = run_tool(root, "dagster._cli:main", "definitions validate -w workspace.yaml")
    assert "Validation successful for code location flux_pipeline" in printed


def test_dg_finds_the_definitions_by_the_project(root: Path) -> None:
    printed = run_tool(root, "dagster_dg_cli.cli:main", "check defs")
    assert "All definitions loaded successfully." in printed


def test_dg_finds_the_component_by_the_entry_point(root: Path) -> None:
    printed = run_tool(root, "dagster_dg_cli.cli:main", "list components --json")
    assert "flux_pipeline.PromptSet" in printed
