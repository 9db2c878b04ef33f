"""Dagster's history on real files, beside Dagster's own storage of the same."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import dagster as dg
import pytest
from sqlalchemy import Engine, event

from flux_pipeline.defs.history import SqliteEvents
from flux_pipeline.defs.launch import open_instance

KEY = dg.AssetKey("castle")


def materialize(instance: dg.DagsterInstance, times: int = 1) -> None:
    for _ in range(times):
        instance.report_runless_asset_event(dg.AssetMaterialization(KEY))


def materialized(instance: dg.DagsterInstance) -> int:
    return len(instance.fetch_materializations(KEY, limit=100).records)


def open_files(folder: Path) -> set[str]:
    """The event files below the folder that this process has open."""
    runs = folder / "history" / "runs"
    handles = list(Path("/proc/self/fd").iterdir())
    paths = {handle.readlink() for handle in handles if handle.is_symlink()}
    return {path.name for path in paths if path.parent == runs and path.suffix == ".db"}


@pytest.fixture
def connections() -> Iterator[list[object]]:
    """Every connection to a database that was made since the test began."""
    made: list[object] = []

    def note(connection: object, _record: object) -> None:
        made.append(connection)

    event.listen(Engine, "connect", note)
    yield made
    event.remove(Engine, "connect", note)


def test_more_events_take_no_more_connections(tmp_path: Path, connections: list[object]) -> None:
    with open_instance(tmp_path) as instance:
        materialize(instance)
        materialize(instance)  # the first call of a file has Dagster make its tables
        before = len(connections)
        materialize(instance, 20)
        assert len(connections) == before
        assert materialized(instance) == 22


def test_dagsters_own_storage_reads_and_writes_the_same_files_meanwhile(tmp_path: Path) -> None:
    with (
        open_instance(tmp_path) as ours,
        dg.DagsterInstance.from_config(str(tmp_path)) as dagsters,
    ):
        materialize(ours, 3)
        materialize(dagsters, 2)
        materialize(ours)
        assert materialized(ours) == materialized(dagsters) == 6


def test_files_of_a_few_runs_are_open_and_none_at_the_end(tmp_path: Path) -> None:
    with open_instance(tmp_path) as instance:
        storage = instance.event_log_storage
        assert isinstance(storage, SqliteEvents)
        for run_id in [str(uuid4()) for _ in range(7)]:
            for _ in range(3):
                with storage.run_connection(run_id) as connection:
                    connection.exec_driver_sql("SELECT 1")
        assert 1 < len(open_files(tmp_path)) <= 4
    assert open_files(tmp_path) == set()


def test_a_history_that_was_wiped_is_begun_anew(tmp_path: Path) -> None:
    with open_instance(tmp_path) as instance:
        materialize(instance, 3)
        instance.event_log_storage.wipe()
        assert materialized(instance) == 0
        materialize(instance, 3)
        assert materialized(instance) == 3


@pytest.mark.parametrize(
    ("settings", "is_ours"),
    [
        ("telemetry: {enabled: false}\n", True),
        ("storage: {sqlite: {base_dir: BASE}}\n", True),
        ("storage: {sqlite: {base_dir: {env: HISTORY}}}\n", False),
    ],
)
def test_only_sqlite_in_a_named_folder_or_the_homes_own_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str, *, is_ours: bool
) -> None:
    base = tmp_path / "elsewhere"
    monkeypatch.setenv("HISTORY", str(base))
    (tmp_path / "dagster.yaml").write_text(settings.replace("BASE", str(base)))
    with open_instance(tmp_path) as instance:
        materialize(instance)
        assert isinstance(instance.event_log_storage, SqliteEvents) is is_ours
    where = base if "HISTORY" in settings or "BASE" in settings else tmp_path
    assert (where / "history" / "runs" / "index.db").exists()
