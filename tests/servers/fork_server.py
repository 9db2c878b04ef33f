"""The fork server of tests: all workers of a run of the whole suite take their processes from one.

It imports once what they need, in three seconds of CPU.
"""

import multiprocessing
import os
from multiprocessing import forkserver
from typing import Any

_PRELOADED = [
    "flux_pipeline.definitions",
    "flux_pipeline.audit.verify",
    "flux_pipeline.cli.run",
    "flux_pipeline.defs.launch",
    "flux_pipeline.emulator.server",
    "flux_pipeline.gallery.build",
    "flux_pipeline.lineage.spend_report",
    "flux_pipeline.produce.plan",
    "pyarrow.dataset",
    "pyarrow.parquet",
    # What is imported where it is needed alone: by pages, and by Dagster's runs.
    "jinja2",
    "anyio._backends._asyncio",
    "upath.implementations.local",
    "dagster._core.executor.in_process",
    "dagster._core.instance.factory",
    "dagster._core.instance.runs.run_domain",
    "dagster._core.secrets.env_file",
    "dagster._core.storage.noop_compute_log_manager",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.storage.root",
    "alembic.command",
    "dagster._core.storage.sqlite_storage",
    "dagster._core.definitions.repository_definition.repository_data_builder",
    "dagster._core.execution.plan.active",
    "dagster._core.storage.legacy_storage",
    "dagster._core.system_config.composite_descent",
    "dotenv.main",
    "pyarrow.acero",
    "rich._emoji_codes",
    "tests.servers.dagster_storage",
    "tests.servers.processes",
    "tests.servers.warmed",
]


def context() -> Any:
    """The context of processes that come from the fork server, which is started if it must be.

    The trap: what is preloaded is set by whoever uses it first, so all that use one come here.
    """
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(_PRELOADED)
    # Or Dagster's executor would set modules of its own. The module's function of that name is no
    # help: it starts a server also where this process takes processes from another.
    _OURS.ensure_running()
    return made


def address() -> str:
    """Where it listens, once it was started."""
    place: str = _OURS._forkserver_address
    return place


def take_processes_from(place: str) -> None:
    """Let this process start others by the fork server there, not by one of its own.

    The trap: they see the variables of the fork server.
    """
    _OURS._forkserver_address = place
    _OURS.ensure_running = lambda: None
    if _OURS._forkserver_alive_fd is None:  # which is passed on, and which nobody reads
        _OURS._forkserver_alive_fd = os.open(os.devnull, os.O_RDONLY)


_OURS: Any = forkserver._forkserver  # type: ignore[attr-defined]
