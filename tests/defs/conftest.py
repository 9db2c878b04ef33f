"""One Dagster instance for all tests of this folder: starting one costs more than most of them."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import dagster as dg
import pytest

from tests.defs import elsewhere
from tests.defs.bench import Bench

_numbers = count(1)


@pytest.fixture(scope="session")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def bench(instance: dg.DagsterInstance, tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(tmp_path, instance, f"winter_{next(_numbers)}", stack)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Another project, with its own resource."""
    elsewhere.write_project(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    yield tmp_path
    elsewhere.forget()
