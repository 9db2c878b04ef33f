"""Another Dagster project, with what its owner would write there."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from flux_pipeline.defs.components import PromptSet
from flux_pipeline.errors import ConfigError, Problem

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
    """An empty project named other, with the resource."""
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
    """A file's text as the attributes of a component."""
    return "".join(f"  {line}" if line.strip() else line for line in text.splitlines(keepends=True))


def component_text(body: str, kind: str = "PromptSet") -> str:
    return f"type: flux_pipeline.{kind}\nattributes:\n{indented(body)}\n"


def write_defs(project: Path, name: str, *bodies: str, kind: str = "PromptSet") -> Path:
    """The components of these attributes, all in one file."""
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
    """What loading the project finds wrong, which Dagster wraps in words of its own."""
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
    """Make the next project be imported anew."""
    for name in [name for name in sys.modules if name.split(".")[0] == "other"]:
        del sys.modules[name]


def dg_commands(folder: Path, *commands: str) -> Iterator[str]:
    """What these say, started at once: each takes seconds."""
    pytest.importorskip("dagster_dg_cli", reason="needs the extra ui: uv sync --extra ui")
    ours = ("DAGSTER_HOME", "FLUX_", "REPLICATE_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    running = [
        subprocess.Popen(
            [Path(sys.executable).parent / "dg", *command.split()],
            cwd=folder,
            env={**environ, "PYTHONPATH": str(folder / "src"), "PYTHONWARNINGS": "ignore"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    try:
        done = [(process.communicate(timeout=600), process.returncode) for process in running]
    finally:
        for process in running:
            process.kill()
    for (output, errors), code in done:
        assert code == 0, output + errors
        yield output
