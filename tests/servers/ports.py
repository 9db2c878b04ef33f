"""Ports of the servers that tests start: a free one, and whether somebody listens by now."""

import os
import secrets
import socket
import subprocess
import time

_EACH = 500
"""Ports of each pytest worker; two that draw the same before either listens would have one."""
_GIVEN: set[int] = set()


def free_port() -> int:
    """A port that nobody listens on, below those that the system gives to outgoing connections.

    No other worker of this run is given it, and none twice.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 20_000 + worker % 24 * _EACH
    while True:
        port = first + secrets.randbelow(_EACH)
        if port not in _GIVEN and not _listens(port):
            _GIVEN.add(port)
            return port


def answers(server: "subprocess.Popen[bytes]", port: int, seconds: float) -> bool:
    """Wait until a server listens on its port; False where it ended, or took longer than this."""
    deadline = time.monotonic() + seconds
    while server.poll() is None and time.monotonic() < deadline:
        if _listens(port):
            return True
        time.sleep(0.02)
    return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return not probe.connect_ex(("127.0.0.1", port))
