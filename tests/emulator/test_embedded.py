"""The embedded emulator: nothing is started before somebody calls, and all is gone at the end."""

import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from flux_pipeline.emulator.embedded import EmbeddedEmulator
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.records import FILE_NAME
from tests.emulator.api import PATIENCE

KEY = {"Authorization": "Bearer any"}


def ask(origin: str) -> httpx.Response:
    return httpx.get(f"{origin}/v1/predictions", headers=KEY, timeout=PATIENCE)


def test_the_first_call_starts_it_and_is_answered(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with EmbeddedEmulator(EmulatorOptions(), state_dir=tmp_path) as emulator:
        assert not emulator.is_started
        assert ask(emulator.origin).status_code == 200
        assert emulator.is_started
        assert ask(emulator.origin).status_code == 200
    assert set(threading.enumerate()) <= before
    with pytest.raises(httpx.ConnectError):
        ask(emulator.origin)


def test_nobody_called_and_the_server_was_not_even_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path"
        "; from flux_pipeline.emulator.embedded import EmbeddedEmulator as E"
        "; from flux_pipeline.emulator.options import EmulatorOptions as O"
        f"\nwith E(O(), state_dir=Path({str(tmp_path)!r})): pass"
        "\nprint({'uvicorn', 'starlette', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_state_that_cannot_be_opened_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        EmbeddedEmulator(EmulatorOptions(), state_dir=tmp_path)


def test_a_server_that_cannot_start_refuses_its_callers_and_says_why_at_the_end(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"

    def call() -> None:
        with EmbeddedEmulator(EmulatorOptions(), state_dir=state) as emulator:
            shutil.rmtree(state)
            state.write_text("no folder any more")
            with pytest.raises(httpx.TransportError):
                ask(emulator.origin)

    with pytest.raises(FileExistsError, match="state"):
        call()
