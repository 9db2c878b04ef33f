"""The commands in a Dagster project whose prompt sets are components."""

import json
from pathlib import Path
from typing import Any

import pytest

from flux_pipeline.emulator.server import EmulatorServer
from tests.defs.component_project import MODEL, write_defs, write_project, write_resource
from tests.servers.dagster_home import write_dagster_home
from tests.servers.processes import start_program

SET = f"model: {MODEL}\ndefaults: {{output_format: jpg}}\nprompts: {{fox: a fox, owl: an owl}}\n"
SOURCE = "src/other/defs"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of nobody's environment: it is not installed, and has no variable set."""
    write_project(tmp_path)
    (tmp_path / SOURCE / "resources.py").unlink()
    write_defs(tmp_path, "ice", SET)
    write_dagster_home(tmp_path)
    return tmp_path


def call(folder: Path, *arguments: str, **environ: str) -> tuple[int, Any, str]:
    (folder / "errors.txt").unlink(missing_ok=True)
    running = start_program(arguments, folder=folder, environ=environ)
    code, printed = running.wait()
    errors = running.errors.read_text()
    assert "Traceback" not in errors
    found = json.loads(printed) if printed.startswith(("{", "[")) else printed
    return code, found, errors


def test_sets_are_planned_made_traced_and_verified_with_what_the_env_file_says(
    project: Path, server: EmulatorServer
) -> None:
    write_defs(project, "shared", "image_producer: environment", kind="SharedAssets")
    (project / ".env").write_text(
        f"FLUX_PROVIDER={server.origin}\nFLUX_API_KEY=test-key\nFLUX_STORE=file:pictures\n"
    )
    below = project / SOURCE
    assert call(project, "plan", "--json")[1]["total"]["images"] == 2
    code, made, errors = call(project, "run", "ice", "--json")
    assert (code, made["total"]["stored"]) == (0, 2), errors
    assert "(.env)" in errors.splitlines()[0]
    assert (project / "pictures/galleries/ice/index.html").is_file()
    assert [row["prompt"] for row in call(project, "trace", "--set", "ice", "--json")[1]]
    assert call(project, "verify", "--json")[1]["ok"]
    retried = {"requests": [], "usd": 0, "emulated": True}
    assert call(project, "retry", "--json")[1] == retried
    code, _, errors = call(project, "plan", "snow")
    assert (code, f"{below} has no prompt set snow; it has ice" in errors) == (2, True)
    code, _, errors = call(project, "plan", "--changed-since", "HEAD")
    assert (code, "components are none" in errors) == (2, True)


def test_the_projects_own_resource_goes_before_the_variables(
    project: Path, server: EmulatorServer
) -> None:
    write_defs(project, "shared", "image_producer: project", kind="SharedAssets")
    write_resource(
        project,
        f'provider="{server.origin}", api_key=dg.EnvVar("STUDIO_KEY"), store="file:own"'
        ', ledger="sqlite:///own.db"',
    )
    environ = {"STUDIO_KEY": "canary-key", "FLUX_STORE": "file:other"}
    code, made, errors = call(project, "run", "--json", **environ)
    assert (code, made["total"]["stored"]) == (0, 2), errors
    first = errors.splitlines()[0]
    assert first.count("(the project's image_producer)") == 3
    assert f"store file://{project}/own " in first
    assert "canary" not in errors
    assert not (project / "other").exists()
    assert call(project, "verify", "--json", **environ)[1]["ok"]
    assert len(call(project, "trace", "--set", "ice", "--json", **environ)[1]) == 2


def test_a_project_without_the_resource_says_what_to_add(project: Path) -> None:
    code, _, errors = call(project, "plan")
    (line,) = errors.splitlines()
    assert code == 2
    assert line.startswith(f"{project}: has no resource image_producer")
    assert "flux_pipeline.SharedAssets" in line


def test_a_mistake_in_a_component_is_one_line_with_its_place(project: Path) -> None:
    write_defs(project, "shared", "image_producer: environment", kind="SharedAssets")
    write_defs(project, "ice", f"model: {MODEL}\nprompts: {{fox: {{promt: a fox}}}}\n")
    code, _, errors = call(project, "plan")
    assert code == 2
    assert f"{project}/{SOURCE}/ice/defs.yaml:4: prompts.fox.promt" in errors.replace("\n", " ")


def test_a_project_without_components_of_ours_is_asked_for_its_folder(project: Path) -> None:
    (project / SOURCE / "ice/defs.yaml").unlink()
    code, _, errors = call(project, "plan")
    assert (code, "configs: no such folder" in errors) == (2, True)


def test_a_folder_of_prompt_sets_goes_before_components(project: Path) -> None:
    (project / "configs").mkdir()
    (project / "configs/file.yaml").write_text(SET)
    assert list(call(project, "plan", "--json")[1]["sets"]) == ["file"]
