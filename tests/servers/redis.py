"""A real Redis for tests, as Debian has it: in memory, on loopback, gone at the end."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.servers.ports import answers, free_port

_SECONDS = 120


@contextmanager
def running_redis() -> Iterator[str]:
    """Start a server of its own; its address, to which the number of a database is added."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("needs a broker: apt-get install redis-server")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        options = f"--port {port} --bind 127.0.0.1 --save --appendonly no --dir {folder}"
        server = subprocess.Popen(
            [program, *options.split()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        try:
            if not answers(server, port, _SECONDS):
                raise RuntimeError(f"redis-server did not start on port {port}")
            yield f"redis://127.0.0.1:{port}"
        finally:
            server.kill()
            server.wait()
