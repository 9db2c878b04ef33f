"""Lock files: who lives, who is dead, and who can't be told."""

import fcntl
import os
from pathlib import Path

import pytest

from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger.leases import LockFile

DAY = 86400
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def test_a_process_is_seen_until_it_leaves(tmp_path: Path) -> None:
    ours, theirs = LockFile(tmp_path), LockFile(tmp_path)
    name = ours.take()
    assert not theirs.is_dead(name)
    assert not ours.is_dead(name)
    ours.release()
    assert theirs.is_dead(name)


def test_entering_again_changes_nothing(tmp_path: Path) -> None:
    lock_file = LockFile(tmp_path)
    assert lock_file.take() == lock_file.take()
    assert len(list(tmp_path.iterdir())) == 1
    lock_file.release()
    lock_file.release()


def test_who_comes_back_is_another_one(tmp_path: Path) -> None:
    lock_file = LockFile(tmp_path)
    first = lock_file.take()
    lock_file.release()
    assert lock_file.take() != first
    assert lock_file.is_dead(first)
    lock_file.release()


def test_a_missing_file_proves_nothing(tmp_path: Path) -> None:
    assert not LockFile(tmp_path).is_dead("0" * 32)
    assert not LockFile(tmp_path / "nowhere").is_dead("0" * 32)


def test_looking_on_does_not_hide_the_living(tmp_path: Path) -> None:
    ours = LockFile(tmp_path)
    name = ours.take()
    for _ in range(3):
        assert not LockFile(tmp_path).is_dead(name)
    ours.release()


def test_two_who_look_at_the_same_time_see_the_same(tmp_path: Path) -> None:
    dead = LockFile(tmp_path)
    name = dead.take()
    dead.release()
    with (tmp_path / name).open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH | fcntl.LOCK_NB)  # as is_dead does, elsewhere
        assert LockFile(tmp_path).is_dead(name)


@forks
def test_a_childs_copy_of_the_lock_does_not_outlive_its_parent(tmp_path: Path) -> None:
    ours, theirs = LockFile(tmp_path), LockFile(tmp_path)
    name = ours.take()
    forked, end = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(end[1])
        os.write(forked[1], b"x")
        os.read(end[0], 1)  # ends with the parent, whatever becomes of it
        os._exit(0)
    os.read(forked[0], 1)
    ours.release()
    dead = theirs.is_dead(name)
    for file in (*forked, *end):
        os.close(file)
    os.waitpid(pid, 0)
    assert dead


@forks
def test_a_forked_child_does_not_free_its_parents_lock(tmp_path: Path) -> None:
    ours, theirs = LockFile(tmp_path), LockFile(tmp_path)
    name = ours.take()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert not theirs.is_dead(name)
    ours.release()


def test_old_files_of_the_dead_are_swept_and_those_of_the_living_stay(tmp_path: Path) -> None:
    dead, living, new = LockFile(tmp_path), LockFile(tmp_path), LockFile(tmp_path)
    dead_name, living_name = dead.take(), living.take()
    dead.release()
    for name in (dead_name, living_name):
        os.utime(tmp_path / name, (0, 8 * DAY))
    new_name = new.take()
    assert {path.name for path in tmp_path.iterdir()} == {living_name, new_name}
    living.release()
    new.release()


def test_young_files_of_the_dead_stay_as_proof(tmp_path: Path) -> None:
    dead, new = LockFile(tmp_path), LockFile(tmp_path)
    name = dead.take()
    dead.release()
    new.take()
    assert new.is_dead(name)
    new.release()


def test_only_this_user_may_look_into_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "ledger.db.workers"
    lock_file = LockFile(folder)
    name = lock_file.take()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / name).stat().st_mode & 0o777 == 0o600
    lock_file.release()


def test_a_folder_that_can_not_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"no lock file can be made in .*file/workers"):
        LockFile(tmp_path / "file" / "workers").take()
