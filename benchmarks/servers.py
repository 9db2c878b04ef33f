"""The two servers that both contestants talk to, each in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def emulator() -> Iterator[str]:
    """The emulated provider; gives its origin."""
    command = [sys.executable, "-m", "benchmarks.emulator"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            ready = server.stdout.readline()
            if "http://" not in ready:
                raise SystemExit("the emulator did not start")
            yield "http://" + ready.partition("http://")[2].split()[0]
        finally:
            server.terminate()


@contextmanager
def store(folder: Path) -> Iterator[str]:
    """An S3 server with one bucket where one can be started, else a folder; gives the address."""
    try:
        from tests.servers.s3 import running_s3  # noqa: PLC0415  a checkout without dev packages
    except ImportError as error:
        print(f"no S3 server here ({error}): a folder instead")
        yield f"file:{folder / 'store'}"
        return
    with running_s3() as server:
        os.environ.update(server.environment())
        yield f"s3://{server.new_bucket()}/benchmark"
