"""What holds for every test, and the servers that many share: each starts once a test process.

They are imported where they are started, so that other tests don't wait for boto3.
"""

import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.servers import fork_server
from tests.servers.memory_folder import folder_in_memory

if TYPE_CHECKING:
    from tests.servers.pgbouncer import PgBouncer
    from tests.servers.postgres import PostgresServer
    from tests.servers.s3 import S3Server

# A busy machine must not fail a law.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two workers more than there are cores: half of the suite's time is waiting.

    It waits for processes that start, for leases that end and for polls, not for a core.
    """
    return (os.cpu_count() or 1) + 2


def pytest_configure(config: pytest.Config) -> None:
    """A shell has what it starts by ``&`` ignore SIGINT, which every process of a test inherits."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    memory = folder_in_memory()
    if memory is not None:  # which pytest reads when the first test asks for a folder
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))
    place = getattr(config, "workerinput", {}).get("fork_server")
    if place:
        fork_server.take_processes_from(place)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """All workers of a run of the whole suite take processes from one server."""
    whole = node.config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if whole and sys.version_info < (3, 14):  # later ones ask for a key of each process
        fork_server.context()
        node.workerinput["fork_server"] = fork_server.address()


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """What stays for the whole session isn't looked through by the garbage collector again.

    That is eight thousand tests and the modules that they import: half a second each time. What
    tests leave is looked through seldom, which is a twentieth of the suite's CPU.
    """
    gc.disable()
    try:
        import_own_share(session.config)
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(100_000)
        gc.enable()


def import_own_share(config: pytest.Config) -> None:
    """Each worker first imports some of the test modules, which leaves them compiled to the others.

    Else each would compile all in a fresh clone: six seconds of CPU.
    """
    worker = getattr(config, "workerinput", {})
    if "fork_server" not in worker:  # not a run of the whole suite
        return
    number = int(worker["workerid"].removeprefix("gw"))
    modules = sorted(Path(__file__).parent.rglob("test_*.py"))[number :: worker["workercount"]]
    for path in modules:
        with suppress(Exception, pytest.skip.Exception):  # which the collection tells
            import_module(".".join(path.relative_to(config.rootpath).with_suffix("").parts))


@pytest.fixture(scope="session")
def postgres() -> "Iterator[PostgresServer]":
    from tests.servers.postgres import running_postgres

    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def pgbouncer(postgres: "PostgresServer") -> "Iterator[PgBouncer]":
    from tests.servers.pgbouncer import running_pgbouncer

    with running_pgbouncer(postgres) as pooler:
        yield pooler


@pytest.fixture(scope="session")
def s3_server() -> "Iterator[S3Server]":
    """No test may expect it to be empty: each makes a bucket or a prefix of its own."""
    from tests.servers.s3 import running_s3

    with running_s3() as server:
        yield server
