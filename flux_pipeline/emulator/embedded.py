"""The embedded emulator: it listens at once, and its server starts with the first connection.

A run that asks its provider nothing does not import the server, which would cost 60 ms of CPU.
"""

import selectors
import socket
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.records import State

if TYPE_CHECKING:
    from flux_pipeline.emulator.server import EmulatorServer

_WAITING = 1024
"""Connections that the system accepts before the server does."""


class EmbeddedEmulator:
    """An ``EmulatorServer`` between ``with`` and the end of its block, started when it is called.

    What can't be opened in ``state_dir`` is raised at the start; why the server could not be
    started, at the end.
    """

    def __init__(self, options: EmulatorOptions, *, state_dir: Path) -> None:
        State(state_dir).close()
        self._options, self._state_dir = options, state_dir
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=_WAITING)
        self.origin = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        """Such as ``http://127.0.0.1:43210``; predictions are at ``/v1/predictions``."""
        self._ended, self._end = socket.socketpair()
        self._is_called = False
        self._server: EmulatorServer | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._wait, name="embedded-emulator", daemon=True)

    @property
    def is_started(self) -> bool:
        """Whether somebody has called."""
        return self._is_called

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.close()
        self._thread.join()
        if self._server is not None:
            self._server.stop()
        self._ended.close()
        self._listener.close()
        if self._error is not None:
            raise self._error

    def _wait(self) -> None:
        """Start the server when somebody connects; return when the block ends before that."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._ended, selectors.EVENT_READ)
            called = self._listener in {key.fileobj for key, _ in selector.select()}
        if not called:
            return
        self._is_called = True  # before anybody can be answered
        try:
            self._start()
        except (ImportError, OSError, ValueError, sqlite3.Error) as error:
            self._error = error
            self._listener.close()  # so that callers are refused, and do not wait

    def _start(self) -> None:
        from flux_pipeline.emulator.server import EmulatorServer  # noqa: PLC0415  see above

        server = EmulatorServer(self._options, state_dir=self._state_dir, listener=self._listener)
        self._server = server.__enter__()
