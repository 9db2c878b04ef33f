"""Dagster's history on real files, beside Dagster's own storage of the same."""

import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Barrier
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
from alembic.script import ScriptDirectory
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,
)
from dagster._core.events import (
    AssetMaterializationPlannedData,
    AssetObservationData,
    StepMaterializationData,
)
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from sqlalchemy import Engine, event

from flux_pipeline.cli.workspace import dagster_home
from flux_pipeline.defs.events import grouped_writes
from flux_pipeline.defs.history import SqliteEvents, SqliteHistory, _migrations
from flux_pipeline.defs.launch import launch_set, open_instance
from tests.defs.asset_runner import AssetRunner

ROOT = Path(__file__).parents[2]
KEY = dg.AssetKey("castle")
IDLE_STATEMENTS = 230
"""Of a run of one set in which nothing has changed: 187, and 16 more for each further group."""
NAMED = "{module: flux_pipeline.defs.history, class: SqliteHistory}"


def materialize(instance: dg.DagsterInstance, times: int = 1) -> None:
    for _ in range(times):
        instance.report_runless_asset_event(dg.AssetMaterialization(KEY))


def materialized(instance: dg.DagsterInstance) -> int:
    return len(instance.fetch_materializations(KEY, limit=100).records)


def run_events(run_id: str) -> Iterator[dg.DagsterEvent]:
    """One event of each kind that Dagster also writes to the file over all runs, and others."""
    kinds = dg.DagsterEventType
    cut = dg.StaticPartitionsDefinition(["a", "b", "c"])
    check_planned = AssetCheckEvaluationPlanned(
        asset_key=KEY,
        check_name="complete",
        partitions_subset=cut.subset_with_partition_keys(["b", "c"]),
    )
    yield dg.DagsterEvent(kinds.RUN_START.value, "job")
    kind = kinds.ASSET_CHECK_EVALUATION_PLANNED
    yield dg.DagsterEvent(kind.value, "job", event_specific_data=check_planned, step_key=run_id)
    for number, partition in enumerate(["a", "b", "a"]):
        tags = {"dagster/data_version": str(number), "own": "not-indexed"}
        planned = AssetMaterializationPlannedData(KEY, partition=partition)
        made = dg.AssetMaterialization(KEY, partition=partition, tags=tags)
        seen = dg.AssetObservation(KEY, partition=partition, metadata={"number": number})
        checked = dg.AssetCheckEvaluation(KEY, "complete", bool(number), {}, partition=partition)
        for kind, data in (
            (kinds.ASSET_MATERIALIZATION_PLANNED, planned),
            (kinds.ASSET_MATERIALIZATION, StepMaterializationData(made)),
            (kinds.ASSET_OBSERVATION, AssetObservationData(seen)),
            (kinds.ASSET_CHECK_EVALUATION, checked),
        ):
            yield dg.DagsterEvent(kind.value, "job", event_specific_data=data, step_key=run_id)
    for passed in (True, False):  # of a check that was not planned: one row
        checked = dg.AssetCheckEvaluation(KEY, "unplanned", passed, {})
        kind = kinds.ASSET_CHECK_EVALUATION
        yield dg.DagsterEvent(kind.value, "job", event_specific_data=checked, step_key=run_id)
    yield dg.DagsterEvent(kinds.STEP_START.value, "job", step_key="step")


def tables(folder: Path, name: str) -> dict[str, list[tuple[object, ...]]]:
    """All rows of the tables that events are written to, but for when they were written."""
    found = {}
    with closing(sqlite3.connect(folder / "history" / "runs" / f"{name}.db")) as database:
        for table in ("event_logs", "asset_keys", "asset_event_tags", "asset_check_executions"):
            rows = database.execute(f"SELECT * FROM {table} ORDER BY 1")
            names = [column[0] for column in rows.description]
            kept = [place for place, each in enumerate(names) if each != "create_timestamp"]
            found[table] = [tuple(row[place] for place in kept) for row in rows]
    return found


def open_files(folder: Path, where: str = "history/runs") -> set[str]:
    """The files below the folder that this process has open: those of events, without ``where``."""
    runs = folder / where
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


def test_more_questions_of_runs_take_no_more_connections(
    tmp_path: Path, connections: list[object]
) -> None:
    with open_instance(tmp_path) as instance:
        run = instance.add_run(dg.DagsterRun(job_name="make", run_id=str(uuid4())))
        before = len(connections)
        for number in range(10):
            instance.add_run_tags(run.run_id, {"number": str(number)})
            assert instance.get_runs()[0].tags["number"] == str(number)
        assert len(connections) == before
    assert open_files(tmp_path, "history") == set()
    dagsters = DagsterSqliteStorage.from_local(str(tmp_path))
    assert [each.tags["number"] for each in dagsters.run_storage.get_runs()] == ["9"]


def test_runs_are_read_by_threads_at_once_and_by_a_forked_process(tmp_path: Path) -> None:
    with open_instance(tmp_path) as instance:
        instance.add_run(dg.DagsterRun(job_name="make", run_id=str(uuid4())))
        meeting = Barrier(4)

        def count_runs() -> int:
            with instance.run_storage.connect():  # as many connections at the same time
                meeting.wait(300)
            return instance.get_runs_count()

        with ThreadPoolExecutor(4) as threads:
            found = [each.result() for each in [threads.submit(count_runs) for _ in range(4)]]
        assert found == [1] * 4
        process = os.fork()
        if not process:
            os._exit(instance.get_runs_count())
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 1
        assert instance.get_runs_count() == 1


def test_dagsters_own_storage_reads_and_writes_the_same_files_meanwhile(tmp_path: Path) -> None:
    with (
        open_instance(tmp_path) as ours,
        dg.DagsterInstance.from_config(str(tmp_path)) as dagsters,
    ):
        materialize(ours, 3)
        materialize(dagsters, 2)
        materialize(ours)
        assert materialized(ours) == materialized(dagsters) == 6


def made(file: Path) -> list[object]:
    """Tables, version and mode of a file, and which migrations of data it needs no more."""
    with closing(sqlite3.connect(file)) as database:
        tables = list(database.execute("SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2"))
        version = database.execute("SELECT version_num FROM alembic_version")
        mode = database.execute("PRAGMA journal_mode")
        found = [*tables, *version, *mode]
        if "secondary_indexes" in {name for _, name, _ in tables}:
            done = "SELECT name FROM secondary_indexes WHERE migration_completed IS NOT NULL"
            found += sorted(database.execute(done))
        return found


def test_all_files_are_made_as_dagsters_own_storage_makes_them_and_it_migrates_them(
    tmp_path: Path,
) -> None:
    own, dagsters = tmp_path / "own", tmp_path / "dagsters"
    for folder, storage in ((own, SqliteHistory), (dagsters, DagsterSqliteStorage)):
        opened: DagsterSqliteStorage = storage.from_local(str(folder))
        with opened.event_log_storage.run_connection("some-run"):
            pass
        opened.dispose()
    names = sorted(str(file.relative_to(dagsters)) for file in dagsters.rglob("*.db"))
    assert [Path(name).name for name in names] == [
        "runs.db",
        "index.db",
        "some-run.db",
        "schedules.db",
    ]
    expected = {name: made(dagsters / name) for name in names}
    assert {name: made(own / name) for name in names} == expected
    with dg.DagsterInstance.from_config(str(own), "no-such.yaml") as instance:
        instance.upgrade()  # as `dagster instance migrate`
        instance.reindex()
        materialize(instance)
    assert {name: made(own / name) for name in names} == expected


def test_dagsters_migrations_are_read_once_in_a_new_home_and_never_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    from_config = ScriptDirectory.from_config

    def noted(config: Any) -> Any:
        read.append(config)
        return from_config(config)

    monkeypatch.setattr(ScriptDirectory, "from_config", noted)
    _migrations.cache_clear()
    for _ in range(2):
        with open_instance(tmp_path) as instance:
            materialize(instance, 2)
    assert len(read) == 1


def test_with_a_dagster_that_has_other_private_names_its_own_storage_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "flux_pipeline.defs.history", None)
    (tmp_path / "dagster.yaml").write_text(
        "storage: {custom: {module: flux_pipeline.defs.history, class: SqliteHistory}}\n"
    )
    with open_instance(tmp_path) as instance, grouped_writes(instance):
        assert not isinstance(instance.event_log_storage, SqliteEvents)
        materialize(instance, 2)
        assert materialized(instance) == 2


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


def test_a_group_of_events_leaves_the_rows_that_dagsters_own_storage_leaves(
    tmp_path: Path,
) -> None:
    run_id = str(uuid4())
    for number, folder in enumerate((tmp_path / "ours", tmp_path / "dagsters")):
        folder.mkdir()
        opened = dg.DagsterInstance.from_config(str(folder)) if number else open_instance(folder)
        with opened as instance, grouped_writes(instance):
            for at, each in enumerate(run_events(run_id)):
                instance.report_dagster_event(each, run_id, timestamp=1_800_000_000.0 + at)
    for name in ("index", run_id):
        ours = tables(tmp_path / "ours", name)
        assert ours == tables(tmp_path / "dagsters", name)
        assert any(ours.values())


def test_evaluations_of_no_run_stand_beside_each_other(tmp_path: Path) -> None:
    with open_instance(tmp_path) as instance:
        for passed in (False, True):
            instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(KEY, "complete", passed, {})
            )
    statuses = [row[5] for row in tables(tmp_path, "index")["asset_check_executions"]]
    assert statuses == ["FAILED", "SUCCEEDED"]


def test_what_waits_in_a_group_is_read_in_this_process_and_written_at_its_end(
    tmp_path: Path,
) -> None:
    with (
        open_instance(tmp_path) as ours,
        dg.DagsterInstance.from_config(str(tmp_path)) as dagsters,
    ):
        materialize(ours, 2)
        with grouped_writes(ours):
            materialize(ours, 2)
            assert materialized(dagsters) == 2
            assert materialized(ours) == 4
            materialize(ours, 2)
        assert materialized(dagsters) == 6


def test_what_waits_where_a_group_fails_is_written_with_the_next_event(tmp_path: Path) -> None:
    with open_instance(tmp_path) as ours:
        with suppress(ZeroDivisionError), grouped_writes(ours):
            materialize(ours, 2)
            _ = 1 / 0
        materialize(ours)
        with dg.DagsterInstance.from_config(str(tmp_path)) as dagsters:
            assert materialized(dagsters) == 3


def test_a_history_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    with open_instance(tmp_path) as instance:
        materialize(instance, 3)
        shutil.move(tmp_path / "history" / "runs", tmp_path / "before")
        (tmp_path / "history" / "runs").mkdir()
        materialize(instance, 2)
        assert materialized(instance) == 2
    assert (tmp_path / "history" / "runs" / "index.db").exists()


@contextmanager
def counted_statements() -> Iterator[list[object]]:
    """Every statement to a database in the block."""
    seen: list[object] = []

    def note(_connection: object, _cursor: object, statement: object, *_: object) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_a_partition_takes_five_events_few_statements_and_no_connection(
    runner: AssetRunner, tmp_path: Path, connections: list[object]
) -> None:
    """Statements of ledger and history; fewer, the more partitions end at the same time."""
    kinds = dg.DagsterEventType
    counted: dict[int, tuple[int, int, int]] = {}
    with open_instance(tmp_path / "home") as instance:
        for partitions in (4, 12):
            names = "".join(f"  p{number}: a castle\n" for number in range(partitions))
            prompt_set = runner.write(f"prompts:\n{names}")
            definitions = runner.definitions(prompt_set)
            launch_set(instance, definitions, prompt_set)
            connections.clear()
            with counted_statements() as statements:
                (unchanged,) = launch_set(instance, definitions, prompt_set)
            events = instance.all_logs(
                unchanged.run_id,
                {
                    kinds.ASSET_MATERIALIZATION_PLANNED,
                    kinds.ASSET_MATERIALIZATION,
                    kinds.ASSET_CHECK_EVALUATION,
                },
            )
            counted[partitions] = len(events), len(statements), len(connections)
    events_, statements_, connections_ = (
        many - few for few, many in zip(counted[4], counted[12], strict=True)
    )
    assert events_ == 5 * 8
    assert statements_ <= 8 * 8
    assert counted[4][1] <= IDLE_STATEMENTS
    assert connections_ <= 1


@pytest.mark.parametrize(
    ("settings", "is_ours"),
    [
        ("telemetry: {enabled: false}\n", True),
        ("storage: {sqlite: {base_dir: BASE}}\n", True),
        ("storage: {sqlite: {base_dir: {env: HISTORY}}}\n", False),
        (f"storage: {{custom: {NAMED}}}\n", True),
        (f"storage: {{custom: {{{NAMED[1:-1]}, config: {{base_dir: BASE}}}}}}\n", True),
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


def test_dagster_itself_opens_it_in_its_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dagster.yaml").write_text(f"storage: {{custom: {NAMED}}}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get() as instance:
        materialize(instance, 2)
        assert isinstance(instance.event_log_storage, SqliteEvents)
    with dg.DagsterInstance.from_config(str(tmp_path), "no-such.yaml") as dagsters:
        assert materialized(dagsters) == 2


def test_the_homes_of_a_new_folder_and_of_this_repository_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    new, ours = dagster_home(), tmp_path / "ours"
    ours.mkdir()
    shutil.copy(ROOT / "dagster.yaml", ours)
    for home in (new, ours):
        monkeypatch.setenv("DAGSTER_HOME", str(home))
        with dg.DagsterInstance.get() as instance:
            assert isinstance(instance.event_log_storage, SqliteEvents)
    assert (new / "history" / "runs" / "index.db").exists()


def test_without_a_folder_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with pytest.raises(dg.DagsterInvariantViolationError, match="set DAGSTER_HOME, or base_dir"):
        SqliteHistory.from_config_value(None, {})
