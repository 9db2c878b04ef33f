"""A project that an earlier version of this package ran goes on: ledger, store and Dagster home.

``older_state/project.tar.xz`` holds a folder in which version 0.1.0 ran one prompt set of three
prompts, with all that it left there.
"""

import os
import tarfile
from pathlib import Path

import dagster as dg
import pytest

from tests.servers.processes import run_command

OLD = Path(__file__).parent / "older_state" / "project.tar.xz"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with tarfile.open(OLD) as archive:
        # Not an argument: Python 3.11 has that since 3.11.4 alone.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(tmp_path)  # noqa: S202 - it is our own
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "data" / "dagster"))
    return tmp_path


def run(project: Path, *arguments: str) -> tuple[int, dict[str, object]]:
    home = {"DAGSTER_HOME": os.environ["DAGSTER_HOME"]}
    return run_command(arguments, folder=project, environ=home)


def test_what_it_made_is_unchanged_and_costs_nothing(project: Path) -> None:
    code, output = run(project, "run", "--json")

    total = output["total"]
    assert isinstance(total, dict)
    assert (code, total["unchanged"], total["created"], total["usd"]) == (0, 3, 0, 0)


def test_its_ledger_store_and_lineage_agree(project: Path) -> None:
    code, output = run(project, "verify", "--deep", "--json")

    assert (code, output["images"]) == (0, 3)


def test_its_images_are_traced(project: Path) -> None:
    image = next((project / "data/store/images/winter").glob("castle-*"))

    code, output = run(project, "trace", str(image), "--json")

    assert code == 0
    assert "a castle in the snow" in str(output)


def test_its_runs_are_shown_by_dagster(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)  # the paths in dagster.yaml are relative
    with dg.DagsterInstance.get() as instance:
        key = dg.AssetKey(["winter", "images"])
        made = instance.get_materialized_partitions(key)

    assert made == {"castle", "harbour-calm", "harbour-stormy"}
