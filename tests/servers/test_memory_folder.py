"""What tests write lies in memory where there is room for it, and else where pytest puts it."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.servers.memory_folder import folder_in_memory

GIGABYTE = 1024**3


def describe(patch: pytest.MonkeyPatch, *, free: int, flags: int) -> None:
    patch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    patch.setattr("os.statvfs", lambda _: SimpleNamespace(f_flag=flags))


def test_it_is_taken_where_it_has_room_and_runs_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe(monkeypatch, free=3 * GIGABYTE, flags=0)
    assert folder_in_memory(tmp_path) == tmp_path


@pytest.mark.parametrize(
    ("free", "flags"), [(GIGABYTE, 0), (3 * GIGABYTE, os.ST_NOEXEC)], ids=["small", "noexec"]
)
def test_it_is_left_where_it_is_small_or_runs_no_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, flags: int
) -> None:
    describe(monkeypatch, free=free, flags=flags)
    assert folder_in_memory(tmp_path) is None


def test_it_is_left_where_there_is_none(tmp_path: Path) -> None:
    assert folder_in_memory(tmp_path / "none") is None


def test_folders_of_tests_lie_in_it_where_no_other_place_was_asked_for() -> None:
    if folder_in_memory() is None:
        pytest.skip("the machine has no folder in memory that is large enough")
    assert os.environ["PYTEST_DEBUG_TEMPROOT"]
