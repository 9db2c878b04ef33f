"""Serves the emulator on a socket: from a thread (``EmulatorServer``), or blocking (``serve``).

Stopping is immediate, and resets open connections as a process that dies would.
"""

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Self, cast

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from flux_pipeline.emulator.app import create_app
from flux_pipeline.emulator.emulator import Clock, Emulator
from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.records import State
from flux_pipeline.emulator.usage import Usage

_IDLE_SECONDS = 75
"""Idle connections stay open as long as at gateways: closing early would be an unplanned fault."""
_QUIET = 100
"""A log level above all others: faults are planned, and need no log."""


class EmulatorServer:
    """Serves one emulator from a thread, between ``with`` and the end of its block.

    Several may run in one process, and several processes may share one ``state_dir``. Leaving the
    block resets what is still under way, as a crash would; the state in a directory stays.
    """

    def __init__(
        self,
        options: EmulatorOptions | None = None,
        faults: FaultPlan | None = None,
        *,
        state_dir: Path | None = None,
        port: int = 0,
        clock: Clock = time.time,
        finish: Callable[[bytes], bytes] = bytes,
        listener: socket.socket | None = None,
    ) -> None:
        """``finish`` is done to each output file before it is served, such as signing it.

        ``listener`` is a socket that listens already, and is closed with the server; None: one on
        ``port``.
        """
        with contextlib.ExitStack() as opened:  # what is open is closed where the next thing fails
            self._socket = opened.enter_context(listener or listen("127.0.0.1", port))
            self.emulator = Emulator(
                state=opened.enter_context(State(state_dir)),
                options=options or EmulatorOptions(),
                faults=faults or FaultPlan(),
                clock=clock,
                finish=finish,
            )
            opened.pop_all()
        self.origin = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        """Such as ``http://127.0.0.1:43210``; predictions are at ``/v1/predictions``."""
        self._server = _Server(_config(self.emulator))
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="emulator", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        self._server.ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop now rather than at the end of the block; a second time does nothing."""
        if self._thread.is_alive():
            self._server.stop()
            self._thread.join()
        self.emulator.state.close()

    def usage(self, *, predictions: bool = True) -> Usage:
        """The usage until now; after the block, read it from the directory with ``read_usage``."""
        return self.emulator.usage(predictions=predictions)


def serve(
    host: str = "127.0.0.1",
    port: int = 0,
    state_dir: Path | None = None,
    options: EmulatorOptions | None = None,
    faults: FaultPlan | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; writes one line to stdout when connections are accepted.

    Raises:
        OSError: Where the port is taken.
    """
    listener = listen(host, port)
    with listener, State(state_dir) as state:
        emulator = Emulator(state, options or EmulatorOptions(), faults or FaultPlan())
        kept = "in memory" if state_dir is None else str(state_dir)
        line = f"emulator ready at http://{host}:{listener.getsockname()[1]} (state: {kept})\n"
        with contextlib.suppress(KeyboardInterrupt):
            _Server(_config(emulator), line).run([listener])


def listen(host: str, port: int) -> socket.socket:
    """A bound socket that can be bound again at once after its process has died."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener


class _Server(uvicorn.Server):
    """uvicorn's server, but it is woken to stop, from any thread.

    uvicorn's own loop looks ten times a second whether it should stop, and then waits for idle
    connections.
    """

    def __init__(self, config: uvicorn.Config, ready_line: str = "") -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self._ready_line = ready_line
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Make ``run`` return soon."""
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopped.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self.stop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        sys.stdout.write(self._ready_line)
        sys.stdout.flush()
        self.ready.set()

    async def main_loop(self) -> None:
        while not self._stopped.is_set():
            await self.on_tick(0)  # sets the Date header
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), timeout=1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        await asyncio.gather(*self.server_state.tasks, return_exceptions=True)
        for listener in sockets or []:
            listener.close()


def _config(emulator: Emulator) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(emulator),
        http=cast("type[asyncio.Protocol]", _protocol),  # uvicorn only ever calls it
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=_QUIET,
        access_log=False,
        timeout_keep_alive=_IDLE_SECONDS,
        server_header=False,
    )


def _protocol(app_state: dict[str, Any], **rest: Any) -> asyncio.Protocol:
    """A connection that its requests can reach as ``scope["state"]["protocol"]``."""
    reachable = dict(app_state)
    connect: Callable[..., asyncio.Protocol] = AutoHTTPProtocol
    protocol = connect(app_state=reachable, **rest)
    reachable["protocol"] = protocol
    return protocol
