"""Runs jobs in this process on a persistent instance, such that the UI can re-execute them.

Dagster's public calls either don't record the code location, so that the UI can't re-execute the
run, or need servers to be started first. So three private names of Dagster are imported here and
nowhere else; a test fails if one of them changes.
"""

import fcntl
import logging
import os
import re
import socket
import sqlite3
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import yaml
from alembic.util import CommandError  # Dagster makes and migrates its tables with it
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.instance.ref import InstanceRef
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster_shared.check import CheckError
from sqlalchemy.exc import ArgumentError, DBAPIError

from flux_pipeline.defs.keys import CODE_LOCATION, SHARED_TAG, SetKeys, asset_keys
from flux_pipeline.defs.partitions import build_partitions, range_tags, runs_for
from flux_pipeline.defs.run_summary import explain_failure
from flux_pipeline.errors import ConfigError, HistoryError, Problem
from flux_pipeline.prompts import PromptSet
from flux_pipeline.text import safe_line

_REPOSITORY = "__repository__"
_PROCESS_TAG = "flux/process"
"""``host:process id:run id`` of the process that runs a run, by which a dead one is found."""
_WRITABLE = "make room there, give this user the right to write, or set DAGSTER_HOME to a folder"
_NOT_WRITABLE = ("readonly", "unable to open", "disk is full", "disk I/O error", "locked")
"""Words of SQLite's messages about a file that is whole."""
_RETRIES = {
    "dagster_postgres.utils": "DagsterPostgresException",
    "dagster_mysql.utils": "DagsterMySQLException",
}
"""By module the error that a storage of Dagster raises after its last try; its cause says why."""
_RETRYING = "Retrying failed database"
"""How Dagster's storages begin a warning for each of their tries."""
_VALUE = re.compile(r'Value ".*?" of type|entry ".*?"|of original value .*? failed|, instead got.*')
"""Where Dagster's messages about its settings show a value, which may be a password."""
_QUOTED = re.compile(r"'.*?'")
_INSTALL = "install it (for Postgres flux-pipeline[postgres]), or correct dagster.yaml"
_STORAGES = frozenset({"storage", "run_storage", "event_log_storage", "schedule_storage"})
"""Keys of ``dagster.yaml`` that say where runs are kept."""
_HISTORY = {"module": "flux_pipeline.defs.history", "class": "SqliteHistory"}
_LOGS = {"module": "flux_pipeline.defs.compute_logs", "class": "LoggedLines"}
_NEXT = "the next run resumes what was accepted"
_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]
_INTERRUPTED = "UNEXPECTED_TERMINATION"
# The command line has the terminal for itself: the log of a run is in the instance.
_QUIET: Mapping[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True, slots=True)
class Launched:
    """One run that was launched here, and has ended."""

    run_id: str
    success: bool
    reason: str = ""
    """Why it failed, for a person to read."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """The metadata of the failure."""


def open_instance(folder: Path) -> dg.DagsterInstance:
    """Open the instance that ``dagster.yaml`` in the folder describes; without one, in the folder.

    ``dagster dev`` uses the same where the folder is DAGSTER_HOME, or where it is started in it.

    Raises:
        ConfigError: The folder can't be written, what Dagster keeps in it is broken, its settings
            are wrong, or its database can't be reached.
    """
    settings = folder / "dagster.yaml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_file(settings)
        # Dagster makes its tables when they are first used. Two processes that make them at once
        # leave a database that nothing can open any more.
        with _locked(folder), _without_warnings_of_retries():
            instance = dg.DagsterInstance.from_ref(
                InstanceRef.from_dir(str(folder), overrides=_overrides(folder))
            )
            instance.get_runs(limit=1)
            instance.all_instigator_state()
            instance.all_asset_keys()
    except ImportError as error:
        message = f"names a storage whose package is missing ({error.name}): {_INSTALL}"
        raise ConfigError([Problem(str(settings), 0, "storage", message)]) from error
    except (yaml.YAMLError, dg.DagsterError, CheckError, ArgumentError, ValueError) as error:
        message = f"is no settings of Dagster: {_explain_settings(error)}"
        raise ConfigError([Problem(str(settings), 0, "", message)]) from None
    except OSError as error:
        message = f"can't be written ({error.strerror}): {_WRITABLE}"
        raise ConfigError([Problem(str(folder), 0, "DAGSTER_HOME", message)]) from error
    except _database_errors() as error:
        raise ConfigError([_explain_database(folder, error)]) from error
    return instance


def _check_file(path: Path) -> None:
    """Raise ConfigError for a pipe or a device, which would be waited for without an end."""
    if path.exists() and not path.is_file():
        raise ConfigError([Problem(str(path), 0, "", "is no file")])


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time into this block; a network disk that has no locks lets all in."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def _without_warnings_of_retries() -> Iterator[None]:
    """Keep a storage's own tries out of the log: the last one is an error, which is reported."""

    def is_shown(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(_RETRYING)

    root = logging.getLogger()  # which the storages log to
    root.addFilter(is_shown)
    try:
        yield
    finally:
        root.removeFilter(is_shown)


def _database_errors() -> tuple[type[Exception], ...]:
    """What Dagster's storages raise where their database fails, of those that are in use."""
    found = [getattr(sys.modules.get(module), name, None) for module, name in _RETRIES.items()]
    return (DBAPIError, CommandError, *filter(None, found))


@contextmanager
def _reported_errors(instance: dg.DagsterInstance) -> Iterator[None]:
    """Turn a failure of Dagster's database during a run into one message.

    Raises:
        HistoryError: What was sent is in the ledger all the same.
    """
    try:
        with _without_warnings_of_retries():
            yield
    except _database_errors() as error:
        problem = _explain_database(Path(instance.root_directory), error)
        raise HistoryError(f"{problem}; {_NEXT}") from error


def _explain_settings(error: Exception) -> str:
    """What Dagster says of its settings, in one line without any value of theirs."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {_QUOTED.sub('…', error.problem or '')}"
    if isinstance(error, (yaml.YAMLError, UnicodeError)):
        return "it is no YAML in UTF-8"
    if isinstance(error, (ArgumentError, ValueError)):
        return "storage: the address of its database can't be read"
    errors = error.errors if isinstance(error, dg.DagsterInvalidConfigError) else ()
    said = "; ".join(each.message for each in errors or ()) or str(error)
    said = said.partition("Stack Trace")[0].partition("Expected: ")[0]
    return safe_line(_VALUE.sub("…", " ".join(said.split())))


def _explain_database(folder: Path, error: Exception) -> Problem:
    """Say what is wrong with the database in which Dagster keeps its runs, and what to do."""
    known = isinstance(error, (DBAPIError, CommandError))
    first = error if known or error.__cause__ is None else error.__cause__
    said = safe_line(str(first.orig if isinstance(first, DBAPIError) else first))
    if isinstance(first, CommandError) or (
        isinstance(first, DBAPIError) and isinstance(first.orig, sqlite3.Error)
    ):
        return Problem(str(folder), 0, "DAGSTER_HOME", _explain_sqlite(folder, said))
    mend = "start it, or correct its address and password"
    if "NOTIFY" in said:  # Dagster's statement, which is none for psycopg 3
        mend = "its address must begin with postgresql+psycopg2://, the driver that Dagster needs"
    message = f"Dagster's database can't be used ({said}): {mend}"
    return Problem(str(folder / "dagster.yaml"), 0, "storage", message)


def _explain_sqlite(folder: Path, said: str) -> str:
    if any(words in said for words in _NOT_WRITABLE):
        return f"can't be written ({said}): {_WRITABLE}"
    base = _sqlite_base(folder) or folder
    return (
        f"Dagster's history of runs is broken ({said}): move {base}/history and {base}/schedules"
        " away and start again. Dagster makes them anew; ledger and store lie elsewhere and lose"
        " nothing"
    )


def _overrides(folder: Path) -> dict[str, Any]:
    """What this process has otherwise than ``dagster.yaml`` says, or where that says nothing."""
    overrides: dict[str, Any] = {}
    if (base := _sqlite_base(folder)) is not None:
        overrides["storage"] = _history_in(base)
    settings = _read_settings(folder)
    if settings is not None and "compute_logs" not in settings and _can_import(_LOGS["module"]):
        default = InstanceRef.config_defaults(str(folder))["compute_logs"]
        if default is not None:
            overrides["compute_logs"] = {**_LOGS, "config": default.config_dict}
    return overrides


def _history_in(base: Path) -> Mapping[str, Any]:
    """The storage in this folder, as ``dagster.yaml`` would name it; else Dagster's own."""
    if not _can_import(_HISTORY["module"]):
        return {"sqlite": {"base_dir": str(base)}}
    return {"custom": {**_HISTORY, "config": {"base_dir": str(base)}}}


def _can_import(module: str) -> bool:
    """Whether it can be: it needs more of Dagster than public names, which may have moved."""
    try:
        import_module(module)
    except ImportError:
        return False
    return True


def _sqlite_base(folder: Path) -> Path | None:
    """The folder of Dagster's SQLite files; None where ``dagster.yaml`` names another storage."""
    config = _read_settings(folder)
    if config is None:
        return None
    match config.get("storage"):
        case {"sqlite": {"base_dir": str(base)}}:
            return Path(base)
        case {"custom": dict(custom)} if custom.items() >= _HISTORY.items():
            base = (custom.get("config") or {}).get("base_dir", folder)
            return Path(base) if isinstance(base, str | Path) else None
    return folder if _STORAGES.isdisjoint(config) else None


def _read_settings(folder: Path) -> Mapping[str, Any] | None:
    """What ``dagster.yaml`` says, nothing where it is missing; None where it can't be read."""
    try:
        config = yaml.safe_load((folder / "dagster.yaml").read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return config if isinstance(config, dict) else {} if config is None else None


def launch_set(
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    prompt_set: PromptSet,
    partitions: Collection[str] | None = None,
) -> Sequence[Launched]:
    """Make all assets of the partitions; None is all of them, days up to today.

    An unbroken range of partitions is one run; a run that fails does not keep the next from being
    started. ``produce.report.observing`` gives each result as it comes.

    Raises:
        KeyboardInterrupt: As ``launch_job``; no further run is started.
    """
    return launch_chain(instance, definitions, [prompt_set], partitions)


def launch_chain(
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    prompt_sets: Sequence[PromptSet],
    partitions: Collection[str] | None = None,
    *,
    location: str = CODE_LOCATION,
) -> Sequence[Launched]:
    """As ``launch_set``, for sets of one chain: the first, and some of those that follow it.

    All of them are made in one run, in order. ``location`` as for ``launch_job``.
    """
    first, *rest = prompt_sets
    known = build_partitions(first).get_partition_keys(current_time=datetime.now(UTC))
    chosen = known if partitions is None else partitions
    keys = SetKeys(first.name)
    assets = frozenset(key for each in prompt_sets for key in asset_keys(each))
    return [
        launch_job(
            instance,
            definitions,
            keys.chain_job if rest else keys.job,
            tags=range_tags(span),
            assets=assets if rest else None,
            location=location,
        )
        for span in runs_for(first, known, chosen)
    ]


def launch_together(
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    prompt_sets: Sequence[PromptSet],
    *,
    location: str = CODE_LOCATION,
) -> Mapping[str, Launched]:
    """Make all partitions of several sets in one run, for sets of which nothing has to be sent.

    Gives what came of each set by its name: where one fails, the others are made all the same. The
    run names no partition, so that the web interface shows none as failed for it; its events do.

    Raises:
        KeyboardInterrupt, HistoryError: As ``launch_job``.
    """
    from flux_pipeline.defs.events import grouped_writes
    from flux_pipeline.defs.unchanged import CONFIRM_UNCHANGED, FAILED_SETS, unchanged_config

    names = [each.name for each in prompt_sets]
    # Events are written in groups: with a process that is killed nothing is lost that was paid.
    with grouped_writes(instance):
        run = launch_job(
            instance,
            definitions,
            CONFIRM_UNCHANGED,
            tags={SHARED_TAG: ", ".join(names)},
            config=unchanged_config(names),
            location=location,
        )
    if run.success:
        return dict.fromkeys(names, run)
    if FAILED_SETS not in run.metadata:  # the step itself failed, in the midst of them
        return dict.fromkeys(names, run)
    failed: Mapping[str, Mapping[str, Any]] = run.metadata[FAILED_SETS]
    return {
        name: Launched(
            run.run_id, success=False, reason=failed[name]["reason"], metadata=failed[name]
        )
        if name in failed
        else Launched(run.run_id, success=True)
        for name in names
    }


def join_launched(failed: Mapping[str, Launched]) -> Launched:
    """What failed of several sets in one run, as one failure: each reason with the set's name."""
    (run_id,) = {each.run_id for each in failed.values()}
    return Launched(
        run_id, success=False, reason="\n".join(f"{k}: {v.reason}" for k, v in failed.items())
    )


def launch_job(
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    job_name: str,
    *,
    tags: Mapping[str, str] | None = None,
    assets: frozenset[dg.AssetKey] | None = None,
    config: Mapping[str, Any] | None = None,
    location: str = CODE_LOCATION,
) -> Launched:
    """Run a job to its end, in this process; nothing starts it again by itself.

    ``assets`` are those of the job that are made; None is all of them. ``config`` is what its
    steps are configured with. ``location`` is the name of the code location in which the web
    interface finds the job.

    Raises:
        KeyboardInterrupt: After SIGINT or SIGTERM; the run was drained and is noted as canceled.
        HistoryError: Dagster's own database failed.
    """
    with _reported_errors(instance):
        result = _execute(
            instance,
            definitions,
            job_name,
            tags=tags or {},
            assets=assets,
            config=config or {},
            location=location,
        )
    return Launched(result.run_id, result.success, *explain_failure(_failures(result)))


def _execute(
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    job_name: str,
    *,
    tags: Mapping[str, str],
    assets: frozenset[dg.AssetKey] | None,
    config: Mapping[str, Any],
    location: str,
) -> dg.JobExecutionResult:
    from flux_pipeline.defs.events import grouped_writes

    _cancel_dead_runs(instance)
    job = definitions.resolve_job_def(job_name)
    if assets == job.asset_layer.selected_asset_keys:
        assets = None
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(location), _REPOSITORY)
    run_id = str(uuid4())
    with grouped_writes(instance):  # two events for each partition, which say that it is planned
        run = instance.create_run_for_job(
            job,
            run_id=run_id,
            run_config={**_QUIET, **config},
            tags={
                **tags,
                "dagster/max_retries": "0",
                _PROCESS_TAG: f"{socket.gethostname()}:{os.getpid()}:{run_id}",
            },
            asset_selection=assets,  # on record, so that the UI re-executes these alone
            remote_job_origin=repository.get_job_origin(job_name),
        )
    if assets is not None:
        job = job.get_subset(asset_selection=assets)
    result = execute_run(InMemoryJob(job), run, instance)
    ended = instance.get_run_by_id(run_id)
    if ended is not None and ended.tags.get("dagster/failure_reason") == _INTERRUPTED:
        instance.report_run_canceled(ended, "Interrupted.")
        raise KeyboardInterrupt
    return result


def _failures(result: dg.JobExecutionResult) -> Sequence[dg.DagsterEvent]:
    """The failures of a run's steps."""
    return result.filter_events(lambda event: event.is_step_failure)


def _cancel_dead_runs(instance: dg.DagsterInstance) -> None:
    """Report as canceled the runs launched on this host whose process is gone.

    Without this they stay STARTED for ever. Their requests are in the ledger, and the next run
    resumes them.
    """
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED)):
        # A run that was re-executed in the UI has this tag too, with its parent's id.
        place, _, run_id = run.tags.get(_PROCESS_TAG, "").rpartition(":")
        host, _, process = place.rpartition(":")
        if (host, run_id) == (socket.gethostname(), run.run_id) and not _is_alive(int(process)):
            instance.report_run_canceled(run, "The process that ran it is gone.")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's process: it exists
        return True
    return True
