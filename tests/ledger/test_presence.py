"""Lock files: who lives, who is dead, and who can't be told."""

import fcntl
import os
from pathlib import Path

import pytest

from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger.leases import Presence

DAY = 86400
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def test_a_process_is_seen_until_it_leaves(tmp_path: Path) -> None:
    ours, theirs = Presence(tmp_path), Presence(tmp_path)
    name = ours.enter()
    assert not theirs.is_dead(name)
    assert not ours.is_dead(name)
    ours.leave()
    assert theirs.is_dead(name)


def test_entering_again_changes_nothing(tmp_path: Path) -> None:
    presence = Presence(tmp_path)
    assert presence.enter() == presence.enter()
    assert len(list(tmp_path.iterdir())) == 1
    presence.leave()
    presence.leave()


def test_who_comes_back_is_another_one(tmp_path: Path) -> None:
    presence = Presence(tmp_path)
    first = presence.enter()
    presence.leave()
    assert presence.enter() != first
    assert presence.is_dead(first)
    presence.leave()


def test_a_missing_file_proves_nothing(tmp_path: Path) -> None:
    assert not Presence(tmp_path).is_dead("0" * 32)
    assert not Presence(tmp_path / "nowhere").is_dead("0" * 32)


def test_looking_on_does_not_hide_the_living(tmp_path: Path) -> None:
    ours = Presence(tmp_path)
    name = ours.enter()
    for _ in range(3):
        assert not Presence(tmp_path).is_dead(name)
    ours.leave()


def test_two_who_look_at_the_same_time_see_the_same(tmp_path: Path) -> None:
    dead = Presence(tmp_path)
    name = dead.enter()
    dead.leave()
    with (tmp_path / name).open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH | fcntl.LOCK_NB)  # as is_dead does, elsewhere
        assert Presence(tmp_path).is_dead(name)


@forks
def test_a_childs_copy_of_the_lock_does_not_outlive_its_parent(tmp_path: Path) -> None:
    ours, theirs = Presence(tmp_path), Presence(tmp_path)
    name = ours.enter()
    forked, end = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(end[1])
        os.write(forked[1], b"x")
        os.read(end[0], 1)  # ends with the parent, whatever becomes of it
        os._exit(0)
    os.read(forked[0], 1)
    ours.leave()
    dead = theirs.is_dead(name)
    for file in (*forked, *end):
        os.close(file)
    os.waitpid(pid, 0)
    assert dead


@forks
def test_a_forked_child_does_not_free_its_parents_lock(tmp_path: Path) -> None:
    ours, theirs = Presence(tmp_path), Presence(tmp_path)
    name = ours.enter()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert not theirs.is_dead(name)
    ours.leave()


def test_old_files_of_the_dead_are_swept_and_those_of_the_living_stay(tmp_path: Path) -> None:
    dead, living, new = Presence(tmp_path), Presence(tmp_path), Presence(tmp_path)
    dead_name, living_name = dead.enter(), living.enter()
    dead.leave()
    for name in (dead_name, living_name):
        os.utime(tmp_path / name, (0, 8 * DAY))
    new_name = new.enter()
    assert {path.name for path in tmp_path.iterdir()} == {living_name, new_name}
    living.leave()
    new.leave()


def test_young_files_of_the_dead_stay_as_proof(tmp_path: Path) -> None:
    dead, new = Presence(tmp_path), Presence(tmp_path)
    name = dead.enter()
    dead.leave()
    new.enter()
    assert new.is_dead(name)
    new.leave()


def test_only_this_user_may_look_into_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "ledger.db.workers"
    presence = Presence(folder)
    name = presence.enter()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / name).stat().st_mode & 0o777 == 0o600
    presence.leave()


def test_a_folder_that_can_not_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"no lock file can be made in .*file/workers"):
        Presence(tmp_path / "file" / "workers").enter()
