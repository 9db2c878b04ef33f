"""The garbage collector: off while modules are loaded, seldom in a run, and on in a command."""

import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from flux_pipeline.cli import cli
from flux_pipeline.garbage_collector import building, fewer_collections, hold, loading, paused


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.unfreeze()
    gc.enable()
    gc.set_threshold(*before)


def test_nothing_is_collected_while_modules_are_loaded_and_they_are_left_out_later() -> None:
    gc.unfreeze()
    with loading():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 1_000


def test_in_a_process_of_others_it_is_as_it_was() -> None:
    gc.unfreeze()
    with paused(), paused():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
    hold()
    with paused():
        pass
    assert not gc.isenabled()


def test_what_dagster_has_loaded_is_left_out_and_new_garbage_is_found() -> None:
    gc.unfreeze()
    with building():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 1_000 > len(gc.get_objects())
    hold()
    with building():
        pass
    assert not gc.isenabled()


def test_garbage_is_collected_again_after_an_error() -> None:
    with pytest.raises(ImportError), loading():
        raise ImportError
    assert gc.isenabled()


def test_garbage_is_collected_while_a_command_works() -> None:
    hold()  # as the process does, before click imports the command
    assert CliRunner().invoke(cli, ["schema"]).exit_code == 0
    assert gc.isenabled()


def test_garbage_is_looked_for_less_often_until_the_last_run_has_ended() -> None:
    with fewer_collections():
        assert gc.get_threshold() == (50_000, 10, 10)
        with fewer_collections():
            pass
        assert gc.get_threshold() == (50_000, 10, 10)
    assert gc.get_threshold() == (700, 10, 10)


def test_looking_less_often_ends_after_an_error() -> None:
    with pytest.raises(KeyError), fewer_collections():
        raise KeyError
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("objects", [0, 60_000])
def test_a_process_that_looks_more_seldom_is_left_as_it_is(objects: int) -> None:
    gc.set_threshold(objects, 5, 5)
    with fewer_collections():
        assert gc.get_threshold() == (objects, 5, 5)
    assert gc.get_threshold() == (objects, 5, 5)


def test_a_command_leaves_nothing_to_look_through_when_its_process_ends() -> None:
    code = (
        "import atexit, gc, sys; from flux_pipeline.cli import main; sys.argv[1:] = ['--version']"
        "; atexit.register(lambda: print(gc.get_freeze_count() > 1_000 > len(gc.get_objects())))"
        "; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True"
