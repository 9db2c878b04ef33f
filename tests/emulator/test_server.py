"""The server: quick to start, quick to stop, and silent."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from flux_pipeline.cli.emulator import emulator
from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer, listen
from tests.emulator.api import PATIENCE, Api
from tests.emulator.conftest import Start
from tests.servers.ports import free_port


@contextmanager
def serving(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that serves a state, and is gone when the test ends."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.emulator.worker", "serve", str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def begun_since(before: set[threading.Thread]) -> set[threading.Thread]:
    """Threads that weren't there and don't end; a number would also count those that end now."""
    begun = set(threading.enumerate()) - before
    for thread in begun:
        thread.join(PATIENCE)
    return {thread for thread in begun if thread.is_alive()}


def test_several_run_in_one_process(start: Start) -> None:
    servers = [start() for _ in range(4)]
    assert len({server.origin for server, _ in servers}) == 4
    assert all(api.finished()["status"] == "succeeded" for _, api in servers)


def test_a_port_can_be_chosen_and_chosen_again_at_once() -> None:
    port = free_port()
    for _ in range(2):
        with EmulatorServer(port=port) as server:
            assert server.origin == f"http://127.0.0.1:{port}"
            api = Api(server.origin)
            api.create()
            api.close()


def test_a_taken_port_is_an_error_before_anything_runs_or_is_opened(tmp_path: Path) -> None:
    threads, state = set(threading.enumerate()), tmp_path / "state"
    with listen("127.0.0.1", 0) as taken, pytest.raises(OSError, match="in use"):
        EmulatorServer(port=taken.getsockname()[1], state_dir=state)
    assert set(threading.enumerate()) <= threads
    assert not state.exists()  # an open database would be a ResourceWarning from Python 3.13 on


def test_a_state_that_cannot_be_opened_leaves_the_port_free(tmp_path: Path) -> None:
    port, state = free_port(), tmp_path / "state"
    state.write_text("not a folder")
    with pytest.raises(FileExistsError):
        EmulatorServer(port=port, state_dir=state)
    with EmulatorServer(port=port) as server:
        assert server.origin.endswith(f":{port}")


def test_nothing_listens_after_the_block() -> None:
    with EmulatorServer() as server:
        api = Api(server.origin)
        api.create()
    with pytest.raises(httpx.ConnectError):
        api.post()
    api.close()


def test_stopping_ends_hanging_calls_and_leaves_no_thread() -> None:
    threads = set(threading.enumerate())
    failed: list[Exception] = []

    def hang(api: Api) -> None:
        try:
            api.post()
        except httpx.HTTPError as error:
            failed.append(error)

    with EmulatorServer(faults=FaultPlan(create={"hang_after": 1.0})) as server:
        api = Api(server.origin)
        caller = threading.Thread(target=hang, args=(api,))
        caller.start()
        while not server.usage().creates_accepted:
            time.sleep(0.005)
    caller.join(PATIENCE)
    api.close()
    assert len(failed) == 1
    assert not begun_since(threads)


def test_it_touches_no_signal_handler() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with EmulatorServer():
        assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_faults_write_nothing_to_stderr(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    faults = ("reset_after", "cut_after", "garbage_after", "html_after", "empty_after")
    _, api = start(FaultPlan.model_validate({"create": dict.fromkeys(faults, 0.2), "cap": 99}))
    for seed in range(25):
        try:
            api.post(seed=seed)
        except httpx.HTTPError:
            continue
    assert capfd.readouterr() == ("", "")


def test_a_broken_request_does_not_disturb_it(
    start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    server, api = start()
    port = int(server.origin.rsplit(":", 1)[1])
    for sent in (b"\x16\x03\x01garbage\r\n\r\n", b"GET /v1/predictions HTT", b""):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(sent)
    assert api.finished()["status"] == "succeeded"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serving_says_when_it_is_ready_and_ends_on_a_signal(
    tmp_path: Path, number: signal.Signals
) -> None:
    with serving(tmp_path) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("emulator ready at http://127.0.0.1:")
        assert line.endswith(f" (state: {tmp_path})\n")
        api = Api(line.split()[3])
        assert api.finished()["status"] == "succeeded"
        api.close()
        process.send_signal(number)
        # A process that has to start and end beside many others may take minutes.
        output, errors = process.communicate(timeout=10 * PATIENCE)
    assert (output, errors) == ("", "")
    assert process.returncode == (0 if number == signal.SIGINT else -number)


def test_the_date_header_is_right(start: Start) -> None:
    _, api = start()
    assert "date" in api.post().headers


def test_in_memory_is_the_default() -> None:
    with EmulatorServer(EmulatorOptions()) as server:
        assert server.emulator.state.directory is None


def test_a_folder_of_contracts_is_checked_before_anything_is_served(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("model: a/b\nversion: official\n")
    done = CliRunner().invoke(emulator, ["--models", str(tmp_path)])
    assert done.exit_code == 2
    assert "bad.yaml: no contract" in done.output
