"""One Dagster instance for all tests of this folder: starting one costs more than most of them."""

from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import dagster as dg
import pytest

from tests.defs import component_project
from tests.defs.asset_runner import AssetRunner
from tests.servers.dagster_storage import ephemeral_instance


@pytest.fixture(scope="session")
def instance() -> Iterator[dg.DagsterInstance]:
    with ephemeral_instance() as ephemeral:
        yield ephemeral


@pytest.fixture
def runner(
    request: pytest.FixtureRequest, instance: dg.DagsterInstance, tmp_path: Path
) -> Iterator[AssetRunner]:
    """Its prompt set is named after the test, not by a counter.

    Seeds, and so the faults that the emulator draws, follow from the prompt set's name: with a
    counter they would depend on the order of the tests.
    """
    name = sha256(request.node.nodeid.encode()).hexdigest()[:8]
    with ExitStack() as stack:
        yield AssetRunner(tmp_path, instance, f"winter_{name}", stack)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Another Dagster project, which can be imported, with its own resource."""
    component_project.write_project(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    yield tmp_path
    component_project.forget()
