"""Dagster's history of runs in SQLite, over one connection for each of its files.

Dagster's own storage makes an engine and a connection for every call, so that each statement is
compiled anew, and each event of a run costs about twice the CPU. Tables, statements and files are
Dagster's, and other processes may use its own storage on them at the same time.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage, _event_logs_directory
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, create_engine

_MOST_OPEN = 4
"""Files: the one over all runs, and one for each of the last runs."""
_BUSY_SECONDS = 60
"""How long a call waits for another process's write; as Dagster's own."""


class SqliteHistory(DagsterSqliteStorage):
    """Runs, events and schedules in the folder that ``dagster.yaml`` names, as Dagster has them."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        self._event_log_storage = SqliteEvents(_event_logs_directory(base_dir))

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> "SqliteHistory":
        """Made by Dagster for what ``launch.open_instance`` puts in place of its own."""
        return cls(config_value["base_dir"], inst_data)


class SqliteEvents(SqliteEventLogStorage):
    """The events, in one file a run and one over all runs. For any number of threads."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        self._engines: dict[str, Engine] = {}
        """By file; the one that was used last is the last."""
        self._process = os.getpid()

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        if shard not in self._initialized_dbs:  # Dagster makes the tables, where they are missing
            with super()._connect(shard) as connection:
                yield connection
            return
        with self._db_lock, self._engine(shard).begin() as connection:
            yield connection

    def _engine(self, shard: str) -> Engine:
        if self._process != os.getpid():  # SQLite's connections must not be used after a fork
            self._engines, self._process = {}, os.getpid()
        engine = self._engines.pop(shard, None) or create_engine(
            self.conn_string_for_shard(shard),
            connect_args={"timeout": _BUSY_SECONDS},
            pool_size=1,
            max_overflow=0,
        )
        self._engines[shard] = engine
        if len(self._engines) > _MOST_OPEN:
            self._engines.pop(next(iter(self._engines))).dispose()
        return engine

    def _close(self) -> None:
        with self._db_lock:
            for engine in self._engines.values():
                engine.dispose()
            self._engines.clear()

    def wipe(self) -> None:
        """Close the files before they are deleted."""
        self._close()
        super().wipe()

    def dispose(self) -> None:
        """Stop watching the files, and close them."""
        super().dispose()
        self._close()
