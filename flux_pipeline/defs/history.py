"""Dagster's history of runs in SQLite, over one connection for each file, and written in groups.

Dagster's own storage makes an engine and a connection for every call, looks up the tables' columns
for every event, and writes each in two to four transactions. Tables and files are Dagster's, and
other processes may use its own storage on them at the same time.

``dagster.yaml`` names it as ``storage: custom``; ``flux-pipeline run`` uses it also where that file
names no storage, or Dagster's own for SQLite.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import Enum, auto
from functools import cache
from pathlib import Path
from threading import Lock, RLock
from typing import Any, NamedTuple

import dagster as dg
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from dagster._config import Field, StringSource
from dagster._config.config_schema import UserConfigSchema
from dagster._core.events import (
    ASSET_CHECK_EVENTS,
    ASSET_EVENTS,
    EVENT_TYPE_TO_PIPELINE_RUN_STATUS,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    SqlEventLogStorageMetadata,
    SqlEventLogStorageTable,
)
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._core.storage.runs.schema import RunStorageSqlMetadata
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.schema import ScheduleStorageSqlMetadata
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._core.storage.sql import get_alembic_config
from dagster._core.storage.sqlite import create_db_conn_string
from dagster._core.storage.sqlite_storage import (
    DagsterSqliteStorage,
    _event_logs_directory,
    _runs_directory,
    _schedule_directory,
)
from dagster._serdes import ConfigurableClassData, serialize_value
from sqlalchemy import (
    Connection,
    Engine,
    MetaData,
    NullPool,
    bindparam,
    create_engine,
    insert,
    inspect,
    make_url,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError

_MOST_OPEN = 4
"""Files: the one over all runs, and one for each of the last runs."""
_BUSY_SECONDS = 60
"""How long a call waits for another process's write; as Dagster's own."""
_MOST_WAITING = 200
"""Events of a group that wait to be written; each is some 5 kB, with a preview 20."""
_HOME = "DAGSTER_HOME"
_INSERT = insert(SqlEventLogStorageTable)
_INSERT_CHECK = insert(AssetCheckExecutionsTable)
_CHECKS = AssetCheckExecutionsTable.c
_EVALUATED = (
    update(AssetCheckExecutionsTable)
    .where(
        _CHECKS.asset_key == bindparam("of_asset_key"),
        _CHECKS.check_name == bindparam("of_check_name"),
        _CHECKS.run_id == bindparam("of_run_id"),
        _CHECKS.partition.is_not_distinct_from(bindparam("of_partition")),
    )
    .values(
        {
            name: bindparam(name)
            for name in (
                "execution_status",
                "evaluation_event",
                "evaluation_event_timestamp",
                "evaluation_event_storage_id",
                "materialization_event_storage_id",
            )
        }
    )
)
_LAST_ID = text("SELECT last_insert_rowid()")


class SqliteHistory(DagsterSqliteStorage):
    """Runs, events and schedules in ``base_dir``, without one in DAGSTER_HOME, as Dagster's own."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self.base_dir, self._inst_data = base_dir, inst_data
        self._run_storage: Any = _open_storage(
            SqliteRuns, RunStorageSqlMetadata, _runs_directory(base_dir), "runs"
        )
        self._event_log_storage: Any = SqliteEvents(_event_logs_directory(base_dir))
        self._schedule_storage: Any = _open_storage(
            SqliteScheduleStorage,
            ScheduleStorageSqlMetadata,
            _schedule_directory(base_dir),
            "schedules",
        )
        # That of ``DagsterSqliteStorage`` would open all three in its own way.
        further: Any = super(DagsterSqliteStorage, self)
        further.__init__()

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """What ``dagster.yaml`` may say."""
        return {"base_dir": Field(StringSource, is_required=False)}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> "SqliteHistory":
        """Made by Dagster for what ``dagster.yaml`` names.

        Raises:
            dagster.DagsterInvariantViolationError: Neither ``base_dir`` nor DAGSTER_HOME is set.
        """
        folder = config_value.get("base_dir") or os.environ.get(_HOME)
        if not folder:
            message = (
                f"dagster.yaml: storage: set {_HOME}, or base_dir to the folder of the history"
            )
            raise dg.DagsterInvariantViolationError(message)
        return cls.from_local(str(Path(folder).expanduser()), inst_data)


class SqliteEvents(SqliteEventLogStorage):
    """The events, in one file a run and one over all runs. For any number of threads."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        index = _prepare_file(base_dir, INDEX_SHARD_NAME, SqlEventLogStorageMetadata)
        super().__init__(base_dir, inst_data)
        self._db_lock: Any = RLock()  # of one thread: a write reads in between
        self._files: dict[str, _OpenFile] = {}
        """By run; the one that was used last is the last."""
        self._writing: Connection | None = None
        """The connection to the file over all runs, while events are written to it."""
        self._for_runs: list[_Waiting] = []
        """Events that wait to be written to the files of their runs."""
        self._for_index: list[_Waiting] = []
        """Those of them that wait to be written to the file over all runs."""
        self._groups = 0
        self._tables: set[str] = set()
        self._has_columns = False
        self._process = os.getpid()
        if index is _Found.NEW:  # as Dagster: notes that there is no old data to migrate
            self.reindex_events()
            self.reindex_assets()

    @contextmanager
    def grouped_writes(self) -> Iterator[None]:
        """Write what is stored in the block in a few transactions, at its end at the latest.

        Whoever reads in this process sees all of it: a file is written to before it is read. After
        an exception in the block the rest is written with the next event, which Dagster stores for
        the failure; a process that is killed in the block has not stored the rest.
        """
        with self._db_lock:
            self._groups += 1
        try:
            yield
        finally:
            with self._db_lock:
                self._groups -= 1
        if not self._groups:  # else it is a block within another
            self._write_waiting()

    def store_event(self, event: dg.EventLogEntry) -> None:
        """Store an event, after those that wait."""
        with self._db_lock:
            self._forget_parent()
            self._add_waiting(event)
            # A log message's error would be swallowed by Dagster, with the events that waited.
            waiting = max(len(self._for_runs), len(self._for_index))
            is_full = waiting >= _MOST_WAITING and event.is_dagster_event
            if is_full or not self._groups:
                self._write_waiting()

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Store what Dagster has collected, where DAGSTER_EVENT_BATCH_SIZE is set."""
        with self._db_lock:
            self._write_waiting()
            for event in events:
                self._add_waiting(event)
            self._write_waiting()

    def _add_waiting(self, event: dg.EventLogEntry) -> None:
        """Note an event for its run's file, and as Dagster those of ``_is_mirrored`` for both."""
        waiting = _Waiting(event, self._event_to_row(event))
        self._for_runs.append(waiting)
        if _is_mirrored(event):
            self._for_index.append(waiting)

    def _write_waiting(self) -> None:
        with self._db_lock:
            self._write_to_runs()
            self._write_to_index()

    def _write_to_runs(self) -> None:
        waiting, self._for_runs = self._for_runs, []
        for run_id in dict.fromkeys(each.event.run_id for each in waiting):
            with self._connect(run_id) as connection:
                rows = [each.row for each in waiting if each.event.run_id == run_id]
                connection.execute(_INSERT, rows)

    def _write_to_index(self) -> None:
        waiting, self._for_index = self._for_index, []
        if waiting:
            with self._connect(INDEX_SHARD_NAME) as connection:
                self._writing = connection
                try:
                    self._mirror(connection, *zip(*waiting, strict=True))
                finally:
                    self._writing = None

    def _mirror(
        self,
        connection: Connection,
        events: Sequence[dg.EventLogEntry],
        rows: Sequence[Mapping[str, Any]],
    ) -> None:
        connection.execute(_INSERT, rows)
        # SQLite gives each row the id after the greatest, and nobody else writes meanwhile.
        end = connection.execute(_LAST_ID).scalar_one() + 1
        numbered = list(zip(events, range(end - len(events), end), strict=True))
        of_assets = [each for each in numbered if each[0].dagster_event_type in ASSET_EVENTS]
        if of_assets:
            self._store_asset_event_tags(connection, *zip(*of_assets, strict=True))
        # Of an asset's row the last event of each type counts: each overwrites the same columns.
        last = {
            (event.get_dagster_event().asset_key, event.dagster_event_type): (event, number)
            for event, number in of_assets
        }
        for event, number in sorted(last.values(), key=lambda each: each[1]):
            self._store_asset_event(connection, event, number)
        for (event, number), row in zip(numbered, rows, strict=True):
            if event.dagster_event_type in ASSET_CHECK_EVENTS and not (
                event.dagster_event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION
                and self._has_noted_evaluation(connection, event, row, number)
            ):
                self.store_asset_check_event(event, number)

    def _has_noted_evaluation(
        self, connection: Connection, event: dg.EventLogEntry, row: Mapping[str, Any], number: int
    ) -> bool:
        """Whether the evaluation is noted now, as Dagster does it: where planned, in that row.

        Dagster makes statement and text anew for each, which costs twice as much as the rest.
        """
        if not event.run_id:
            return False
        found = event.get_dagster_event().asset_check_evaluation_data
        status = AssetCheckExecutionRecordStatus
        target = found.target_materialization_data
        of_check = {
            "asset_key": found.asset_key.to_string(),
            "check_name": found.check_name,
            "run_id": event.run_id,
            "partition": found.partition,
        }
        evaluated = {
            "execution_status": (status.SUCCEEDED if found.passed else status.FAILED).value,
            "evaluation_event": row["event"],
            "evaluation_event_timestamp": _stored_time(event),
            "evaluation_event_storage_id": number,
            "materialization_event_storage_id": target.storage_id if target else None,
        }
        planned = {f"of_{name}": value for name, value in of_check.items()}
        noted = connection.execute(_EVALUATED, {**planned, **evaluated}).rowcount
        if noted == 0:
            connection.execute(_INSERT_CHECK, {**of_check, **evaluated})
        return noted <= 1

    def _store_asset_check_evaluation_planned(
        self, event: dg.EventLogEntry, event_id: int | None
    ) -> None:
        """As Dagster, which makes the same text anew for each partition: it names all of them."""
        planned = event.get_dagster_event().asset_check_planned_data
        row = {
            "asset_key": planned.asset_key.to_string(),
            "check_name": planned.check_name,
            "run_id": event.run_id,
            "execution_status": AssetCheckExecutionRecordStatus.PLANNED.value,
            "evaluation_event": serialize_value(event),
            "evaluation_event_timestamp": _stored_time(event),
            "evaluation_event_storage_id": event_id,
        }
        subset = planned.partitions_subset
        partitions = subset.get_partition_keys() if subset else [None]
        with self.index_connection() as connection:
            connection.execute(
                _INSERT_CHECK,
                [{**row, "partition": partition} for partition in partitions],
            )

    def has_table(self, table_name: str) -> bool:
        """Whether there is such a table; looked up until it is there."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def _has_asset_key_index_cols_on_connection(self, conn: Connection) -> bool:
        self._has_columns = self._has_columns or super()._has_asset_key_index_cols_on_connection(
            conn
        )
        return self._has_columns

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            if self._writing is not None and shard == INDEX_SHARD_NAME:
                yield self._writing
                return
            self._forget_parent()
            if shard == INDEX_SHARD_NAME:
                self._write_to_index()
            else:
                self._write_to_runs()
            file = self._open(shard)
            if file is None:  # Dagster makes the tables, where they are missing
                self._initialized_dbs.discard(shard)
                with super()._connect(shard) as connection:
                    yield connection
                return
            with file.engine.begin() as connection:
                yield connection

    def _initdb(self, engine: Engine, for_index_shard: bool = False) -> None:  # noqa: FBT001, FBT002
        """Make the tables of a file that has none."""
        if _prepare(engine, SqlEventLogStorageMetadata) is _Found.OTHER:
            super()._initdb(engine, for_index_shard)

    def _open(self, shard: str) -> "_OpenFile | None":
        """The open file; None for one that was not used yet, or was moved away since."""
        file, identity = self._files.pop(shard, None), _identify(self.path_for_shard(shard))
        if file is not None and file.identity != identity:
            file.engine.dispose()
            return None
        if file is None and (identity is None or shard not in self._initialized_dbs):
            return None
        if file is None:
            engine = create_engine(
                self.conn_string_for_shard(shard),
                connect_args={"timeout": _BUSY_SECONDS},
                pool_size=1,
                max_overflow=0,
            )
            file = _OpenFile(engine, identity)
        self._files[shard] = file
        if len(self._files) > _MOST_OPEN:
            self._files.pop(next(iter(self._files))).engine.dispose()
        return file

    def _forget_parent(self) -> None:
        """After a fork: SQLite's connections must not be used, and what waits is the parent's."""
        if self._process != os.getpid():
            self._files, self._for_runs, self._for_index = {}, [], []
            self._process = os.getpid()

    def _close(self) -> None:
        with self._db_lock:
            for file in self._files.values():
                file.engine.dispose()
            self._files.clear()

    def wipe(self) -> None:
        """Close the files before they are deleted."""
        self._close()
        self._for_runs, self._for_index = [], []
        super().wipe()

    def dispose(self) -> None:
        """Stop watching the files, and close them."""
        super().dispose()
        self._close()


class SqliteRuns(SqliteRunStorage):
    """The runs, over one connection for a thread at a time. For any number of threads.

    Dagster's own makes an engine for each call, which composes each statement's text anew. That of
    schedules does so too; it is left as it is, because Dagster does not say when it needs no more.
    """

    def __init__(self, conn_string: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._path = make_url(conn_string).database or ""
        self._opening = Lock()
        self._engine: Engine | None = None
        self._opened_for: tuple[int, tuple[int, int] | None] = (0, None)
        """Process and file."""
        self._has_columns = False
        super().__init__(conn_string, inst_data)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A transaction of its own."""
        with self._find_engine().begin() as connection:
            yield connection

    def has_run_stats_index_cols(self) -> bool:
        """Whether the table has columns of a later release; looked up until it has."""
        self._has_columns = self._has_columns or super().has_run_stats_index_cols()
        return self._has_columns

    def dispose(self) -> None:
        """Close the connection."""
        super().dispose()
        with self._opening:
            self._forget_engine()

    def _find_engine(self) -> Engine:
        """The engine: another one after a fork, or where the file was moved away since."""
        now = os.getpid(), _identify(self._path)
        with self._opening:
            if self._opened_for != now:
                self._forget_engine()
            if self._engine is None:
                self._engine = create_engine(
                    self._conn_string,
                    connect_args={"timeout": _BUSY_SECONDS},
                    pool_size=1,  # is kept; threads that call at the same time have more
                    max_overflow=-1,
                )
                self._opened_for = now
            return self._engine

    def _forget_engine(self) -> None:
        if self._engine is not None:  # a parent's connection must not be used, not even closed
            self._engine.dispose(close=os.getpid() == self._opened_for[0])
            self._engine = None


class _Found(Enum):
    """What a file of Dagster's history was, before it was looked at."""

    READY = auto()
    NEW = auto()
    """Its tables are made now."""
    OTHER = auto()
    """Something that Dagster's own code has to deal with."""


def _open_storage(
    storage: "type[SqliteRuns | SqliteScheduleStorage]",
    metadata: MetaData,
    folder: str,
    name: str,
) -> Any:
    """The storage in this file, whose tables are made where it is new."""
    found = _prepare_file(folder, name, metadata)
    if found is _Found.OTHER:
        return storage.from_local(folder)
    opened: Any = storage(create_db_conn_string(folder, name))
    if found is _Found.NEW:  # as ``from_local``: notes that there is no old data to migrate
        opened.migrate()
        opened.optimize()
    return opened


def _prepare_file(folder: str, name: str, metadata: MetaData) -> _Found:
    Path(folder).mkdir(parents=True, exist_ok=True)
    address = create_db_conn_string(folder, name)
    waiting = {"timeout": _BUSY_SECONDS}
    return _prepare(create_engine(address, poolclass=NullPool, connect_args=waiting), metadata)


def _prepare(engine: Engine, metadata: MetaData) -> _Found:
    """Make the tables of a file that has none, in one transaction, as Dagster makes them.

    Dagster itself reads all 89 of its migrations for each question of their version. To see that a
    file was made before they are not needed, and for all new files of a process they are read once.
    """
    with engine.connect() as connection:
        migrations, tables = MigrationContext.configure(connection), _tables(connection)
        if tables >= metadata.tables.keys() and migrations.get_current_revision():
            return _Found.READY
        if tables:
            return _Found.OTHER
        try:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            metadata.create_all(connection)
            migrations.stamp(_migrations(), "head")
            connection.commit()
        except DBAPIError:  # another process makes them
            connection.rollback()
            return _Found.OTHER
        return _Found.NEW


def _tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


@cache
def _migrations() -> ScriptDirectory:
    """Dagster's migrations, which its three storages share."""
    return ScriptDirectory.from_config(get_alembic_config(sqlite_event_log.__file__))


class _Waiting(NamedTuple):
    event: dg.EventLogEntry
    row: Mapping[str, Any]
    """Of the table of events."""


class _OpenFile(NamedTuple):
    engine: Engine
    identity: tuple[int, int] | None
    """Of the file that it was opened for."""


def _identify(path: str) -> tuple[int, int] | None:
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _stored_time(event: dg.EventLogEntry) -> datetime:
    """When the event was, as Dagster's tables have it."""
    return datetime.fromtimestamp(event.timestamp, UTC).replace(tzinfo=None)


def _is_mirrored(event: dg.EventLogEntry) -> bool:
    """Whether Dagster also writes it to the file over all runs."""
    kind = event.dagster_event_type if event.is_dagster_event else None
    return (
        kind in ASSET_EVENTS
        or kind in ASSET_CHECK_EVENTS
        or kind in EVENT_TYPE_TO_PIPELINE_RUN_STATUS
    )
