"""The garbage collector: off while modules are loaded, and on while a command works."""

import gc
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from flux_pipeline.cli import cli
from flux_pipeline.collector import hold, loading, paused


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


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


def test_garbage_is_collected_again_after_an_error() -> None:
    with pytest.raises(ImportError), loading():
        raise ImportError
    assert gc.isenabled()


def test_garbage_is_collected_while_a_command_works() -> None:
    hold()  # as the process does, before click imports the command
    assert CliRunner().invoke(cli, ["schema"]).exit_code == 0
    assert gc.isenabled()
