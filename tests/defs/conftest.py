"""One Dagster instance for all tests of this folder: starting one costs more than most of them."""

from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import dagster as dg
import pytest

from tests.defs import elsewhere
from tests.defs.bench import Bench


@pytest.fixture(scope="session")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def bench(
    request: pytest.FixtureRequest, instance: dg.DagsterInstance, tmp_path: Path
) -> Iterator[Bench]:
    """One whose prompt set is named after the test.

    Seeds, and so the faults that the provider draws, follow from a prompt set's name: a name by the
    number of tests before would give this test other faults in every order.
    """
    name = sha256(request.node.nodeid.encode()).hexdigest()[:8]
    with ExitStack() as stack:
        yield Bench(tmp_path, instance, f"winter_{name}", stack)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Another project, with its own resource."""
    elsewhere.write_project(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    yield tmp_path
    elsewhere.forget()
