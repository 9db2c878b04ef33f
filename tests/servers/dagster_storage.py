"""Dagster's SQLite storages, each with one engine for its life.

Dagster's own make an engine for every statement, so that each statement is compiled anew: a third
of a short run's CPU. The tables, the statements and the files are Dagster's.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any, Self

import dagster as dg
from dagster._core.storage.event_log import (
    ConsolidatedSqliteEventLogStorage,
    InMemoryEventLogStorage,
)
from dagster._core.storage.runs import InMemoryRunStorage, SqliteRunStorage
from dagster._core.storage.schedules import SqliteScheduleStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, QueuePool, create_engine, event


@contextmanager
def ephemeral_instance() -> Iterator[dg.DagsterInstance]:
    """Dagster's instance in memory; its storages open one connection and not one a statement."""
    with dg.DagsterInstance.ephemeral() as instance:
        for storage in (instance.run_storage, instance.event_log_storage):
            assert isinstance(storage, InMemoryRunStorage | InMemoryEventLogStorage)
            storage._engine = create_engine(
                storage._engine.url, poolclass=QueuePool, connect_args={"check_same_thread": False}
            )
        yield instance


def _without_fsync(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous=OFF").close()


class _OneEngine:
    _conn_string: str

    @cached_property
    def _engine(self) -> Engine:
        engine = create_engine(self._conn_string, connect_args={"timeout": 60})
        event.listen(engine, "connect", _without_fsync)
        return engine

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with self._engine.begin() as connection:
            yield connection

    def dispose(self) -> None:
        self._engine.dispose()


class RunStorage(_OneEngine, SqliteRunStorage):
    """The runs, in a database whose tables are there."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: dict[str, str]
    ) -> Self:
        """Made by Dagster for what ``dagster.yaml`` names."""
        return cls(f"sqlite:///{config_value['base_dir']}/runs.db", inst_data)


class ScheduleStorage(_OneEngine, SqliteScheduleStorage):
    """The sensors and schedules, in a database whose tables are there."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: dict[str, str]
    ) -> Self:
        """Made by Dagster for what ``dagster.yaml`` names."""
        return cls(f"sqlite:///{config_value['base_dir']}/schedules.db", inst_data)


class EventLogStorage(_OneEngine, ConsolidatedSqliteEventLogStorage):
    """The events of all runs, in one database."""

    def dispose(self) -> None:
        """Stop watching the file, and close it."""
        ConsolidatedSqliteEventLogStorage.dispose(self)
        super().dispose()

    def _connect(self) -> AbstractContextManager[Connection]:
        return self.connect()

    def has_table(self, table_name: str) -> bool:
        """Whether there is one: they are all made."""
        return True
