"""A folder for Dagster with its tables made already, for command lines that run in tests.

Making the tables takes Dagster a second of CPU, a database of its own for every run as much for
three runs, and an engine for every statement half of that. Dagster's storage as it is by default is
tested by ``tests/defs/test_launch.py`` and the documents.
"""

import atexit
import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from flux_pipeline.defs.launch import open_instance

_MAKING = {
    "run_storage": ("dagster._core.storage.runs", "SqliteRunStorage"),
    "event_log_storage": ("dagster._core.storage.event_log", "ConsolidatedSqliteEventLogStorage"),
    "schedule_storage": ("dagster._core.storage.schedules", "SqliteScheduleStorage"),
}
"""Dagster's own, which make the tables."""
_STORAGES = {
    "run_storage": ("tests.servers.dagster_storage", "RunStorage"),
    "event_log_storage": ("tests.servers.dagster_storage", "EventLogStorage"),
    "schedule_storage": ("tests.servers.dagster_storage", "ScheduleStorage"),
}
"""The same on the tables made, with fewer engines."""
_INSTANCE = "telemetry: {enabled: false}\nnux: {enabled: false}\n"
_NO_OUTPUT = (
    "compute_logs: {module: dagster._core.storage.noop_compute_log_manager,"
    " class: NoOpComputeLogManager}\n"
)


def write_dagster_home(folder: Path, *, keep_output: bool = False) -> None:
    """Write a ``dagster.yaml``, where the command line looks for it, and the tables.

    With ``keep_output`` what a step prints is kept in files, as Dagster does by default: for that
    it starts four programs a run, which take it a tenth of its CPU.
    """
    base = folder / "data/dagster"
    shutil.copytree(_tables(), base)
    _write_instance(folder, base, _STORAGES)
    if not keep_output:
        with (folder / "dagster.yaml").open("a") as settings:
            settings.write(_NO_OUTPUT)


@cache
def _tables() -> Path:
    made = Path(mkdtemp(prefix="dagster-tables-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    with TemporaryDirectory() as folder:
        _write_instance(Path(folder), made, _MAKING)
        with open_instance(Path(folder)) as instance:
            instance.get_runs(limit=1)
            instance.all_instigator_state()
            instance.all_asset_keys()
    return made


def _write_instance(folder: Path, base: Path, storages: dict[str, tuple[str, str]]) -> None:
    lines = "".join(
        f"{name}: {{module: {module}, class: {kind}, config: {{base_dir: {base}}}}}\n"
        for name, (module, kind) in storages.items()
    )
    (folder / "dagster.yaml").write_text(_INSTANCE + lines)
