"""A real PgBouncer for tests, as Debian has it: transaction pooling in front of the test Postgres.

Few server connections serve many clients, so that nearly every transaction finds itself in another
session than the one before it, as behind a pooler that is busy.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.ports import answers, free_port
from tests.servers.postgres import PostgresServer

_SECONDS = 120
SESSIONS = 2
"""Of each database at the server: fewer than the clients of any test of several workers."""
_CONFIG = """\
[databases]
statement = host={server} dbname=postgres user=postgres pool_mode=statement
* = host={server} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = 200
server_round_robin = 1
log_connections = 0
log_disconnections = 0
"""


@dataclass(frozen=True)
class PgBouncer:
    postgres: PostgresServer
    port: int

    def create_database(self) -> str:
        """Create an empty database and return its URL, which leads through the pooler."""
        made = self.postgres.create_database()
        return self.url(made.partition("?")[0].rpartition("/")[2])

    def url(self, database: str) -> str:
        """The URL of a database; ``statement`` is one that is pooled by statements."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"


@contextmanager
def running_pgbouncer(postgres: PostgresServer, *settings: str) -> Iterator[PgBouncer]:
    """Start a pooler of its own in a temporary folder; skip, with the reason, where there is none.

    As root it runs as the server's user: PgBouncer refuses to be root's. Further ``settings`` are
    lines of its file.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if program is None:
        pytest.skip("needs a pooler: apt-get install pgbouncer")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as name:
        config = Path(name) / "pgbouncer.ini"
        config.write_text(
            "\n".join(
                [
                    _CONFIG.format(server=postgres.folder, port=port, sessions=SESSIONS),
                    *settings,
                    "",
                ]
            )
        )
        if postgres.user is not None:
            shutil.chown(name, pwd.getpwnam(postgres.user).pw_uid)
        with (Path(name) / "log").open("w") as log:
            server = subprocess.Popen(
                [program, "--quiet", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=postgres.user,
                cwd=name,
            )
        try:
            if not answers(server, port, _SECONDS):
                raise RuntimeError(f"pgbouncer did not start: {(Path(name) / 'log').read_text()}")
            yield PgBouncer(postgres, port)
        finally:
            server.kill()
            server.wait()
