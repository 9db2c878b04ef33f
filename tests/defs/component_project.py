"""Writes and loads a Dagster project with components of this package, as its owner would."""

import os
import sys
from pathlib import Path

import dagster as dg
import pytest

from flux_pipeline.defs.components import PromptSet
from flux_pipeline.errors import ConfigError, Problem
from tests.servers.processes import start_program

MODEL = "lucataco/flux-schnell-lora"
RESOURCE = """\
import dagster as dg
from flux_pipeline import ImageProducer


@dg.definitions
def resources():
    return dg.Definitions(resources={"image_producer": ImageProducer(%s)})
"""
DEFINITIONS = """\
from pathlib import Path
import dagster as dg


@dg.definitions
def defs():
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""


def write_project(folder: Path) -> None:
    """Write a project named other, with the resource and no prompt set."""
    (folder / "pyproject.toml").write_text(
        '[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "other"\n'
    )
    (folder / "src/other/defs").mkdir(parents=True)
    for package in ("src/other", "src/other/defs"):
        (folder / package / "__init__.py").touch()
    (folder / "src/other/definitions.py").write_text(DEFINITIONS)
    write_resource(folder)


def write_resource(folder: Path, arguments: str = "") -> None:
    (folder / "src/other/defs/resources.py").write_text(RESOURCE % arguments)


def indented(text: str) -> str:
    """A prompt set file's text as the attributes of a component."""
    return "".join(f"  {line}" if line.strip() else line for line in text.splitlines(keepends=True))


def component_text(body: str, kind: str = "PromptSet") -> str:
    return f"type: flux_pipeline.{kind}\nattributes:\n{indented(body)}\n"


def write_defs(project: Path, name: str, *bodies: str, kind: str = "PromptSet") -> Path:
    """Write one file with a component for each of these texts of attributes."""
    folder = project / "src/other/defs" / name
    folder.mkdir(exist_ok=True)
    path = folder / "defs.yaml"
    path.write_text("---\n".join(component_text(body, kind) for body in bodies), "utf-8")
    return path


def load(project: Path) -> dg.Definitions:
    return dg.load_from_defs_folder(path_within_project=project / "src/other")


def load_sets(project: Path) -> list[PromptSet]:
    return dg.ComponentTree.for_project(project).get_all_components(PromptSet)


def problems(project: Path) -> tuple[Problem, ...]:
    """The problems that loading the project raises, inside of Dagster's own errors."""
    with pytest.raises(Exception, match="Error while loading component") as raised:
        load(project)
    return config_error(raised.value).problems


def config_error(raised: BaseException) -> ConfigError:
    error: BaseException | None = raised
    while error is not None and not isinstance(error, ConfigError):
        error = error.__cause__
    assert isinstance(error, ConfigError), raised
    return error


def forget() -> None:
    """Forget the imported modules, so that the next project is imported."""
    for name in [name for name in sys.modules if name.split(".")[0] == "other"]:
        del sys.modules[name]


def run_dg(folder: Path, *commands: str, **variables: str) -> str:
    """Run ``dg`` in the folder with each of these commands, which must succeed, in one process.

    Returns what they print. The variables are added to the environment.
    """
    pytest.importorskip("dagster_dg_cli", reason="needs the extra ui: uv sync --extra ui")
    environ = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore"} | variables
    program = start_program(commands, folder=folder, environ=environ, entry=f"{__name__}:call_dg")
    code, printed = program.wait()
    assert code == 0, printed + program.errors.read_text()
    return printed


def call_dg() -> None:
    """Each argument is a command of ``dg``: to import and start it takes longer than most."""
    from dagster_dg_cli.cli import main

    for command in sys.argv[1:]:
        sys.argv = ["dg", *command.split()]
        try:
            main()
        except SystemExit as ended:
            if ended.code:
                raise
