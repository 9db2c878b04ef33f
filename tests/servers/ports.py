"""Ports of the servers that tests start: a free one, and whether somebody listens by now."""

import secrets
import socket
import subprocess
import time


def free_port() -> int:
    """A port that nobody listens on, below those that the system gives to outgoing connections."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        if not _listens(port):
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
