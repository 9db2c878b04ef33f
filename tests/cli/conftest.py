from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from tests.servers.dagster_home import write_dagster_home
from tests.servers.processes import make_images_of, run_command

Command = Callable[..., tuple[int, dict[str, Any], str]]
Make = Callable[..., None]

TWO_SETS = {
    "tale": """
model: lucataco/flux-schnell-lora
defaults: {output_format: jpg, aspect_ratio: 9:21}
prompts:
  king: a king
  frog: a frog
""",
    "map": """
model: lucataco/flux-schnell-lora
defaults: {output_format: jpg}
prompts: {map: a map}
""",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "configs").mkdir()
    for name, text in TWO_SETS.items():
        (tmp_path / "configs" / f"{name}.yaml").write_text(text)
    write_dagster_home(tmp_path)
    return tmp_path


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with EmulatorServer(EmulatorOptions(time_scale=0, render="cheap")) as running:
        yield running


@pytest.fixture
def command(folder: Path, server: EmulatorServer) -> Command:
    """Runs `flux-pipeline` in the folder; gives exit code, JSON output and standard error."""

    def run(*arguments: str, **environ: str) -> tuple[int, dict[str, Any], str]:
        given = {"FLUX_PROVIDER": f"{server.origin}/replicate", "FLUX_API_KEY": "test-key"}
        errors = folder / "errors.txt"
        errors.unlink(missing_ok=True)
        code, output = run_command(arguments, folder=folder, environ=given | environ)
        return code, output, errors.read_text()

    return run


@pytest.fixture
def make(folder: Path, server: EmulatorServer) -> Make:
    """Makes the images of these sets without Dagster's run."""

    def run(*sets: str, **environ: str) -> None:
        given = {"FLUX_PROVIDER": f"{server.origin}/replicate", "FLUX_API_KEY": "test-key"}
        make_images_of(sets, folder=folder, environ=given | environ)

    return run
