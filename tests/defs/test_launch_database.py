"""Dagster's own database in Postgres: what is wrong with it is one message, and nothing is lost."""

import gc
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from flux_pipeline.defs.events import SetEvents
from flux_pipeline.defs.launch import launch_job, launch_set, open_instance
from flux_pipeline.errors import ConfigError, HistoryError
from flux_pipeline.produce.producer import LEFT_RUNNING
from flux_pipeline.produce.report import Result, observing
from tests.defs.asset_runner import AssetRunner
from tests.servers.postgres import PostgresServer, running_postgres

FOUR = "prompts: {castle: a castle, harbour: a harbour, moon: the moon, zoo: a zoo}"
PASSWORD = "canaryKq7"


@pytest.fixture(scope="module")
def module_postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres(module_postgres: PostgresServer) -> Iterator[PostgresServer]:
    """The module's server, which a test may stop: the next test finds it running again."""
    yield module_postgres
    if not module_postgres.is_running:
        module_postgres.start()


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster waits twelve seconds between its tries."""
    utils = pytest.importorskip("dagster_postgres.utils")
    monkeypatch.setattr(utils, "calculate_delay", lambda **_: 0)


def write_home(folder: Path, settings: str) -> Path:
    (folder / "home").mkdir(exist_ok=True)
    (folder / "home/dagster.yaml").write_text(f"telemetry: {{enabled: false}}\n{settings}\n")
    return folder / "home"


def storage(url: str) -> str:
    return f"storage: {{postgres: {{postgres_url: '{url}'}}}}"


def refusal(home: Path, caplog: pytest.LogCaptureFixture) -> str:
    with pytest.raises(ConfigError) as raised:
        open_instance(home)
    assert PASSWORD not in str(raised.value) + caplog.text
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]
    (message,) = str(raised.value).splitlines()
    return message


def test_a_server_that_is_down_is_one_message_that_names_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = write_home(tmp_path, storage(f"postgresql://me:{PASSWORD}@127.0.0.1:1/dagster"))
    message = refusal(home, caplog)
    assert message.startswith(f"{home}/dagster.yaml: storage: Dagster's database can't be used (")
    assert "Connection refused" in message
    assert "start it, or correct its address and password" in message


def test_a_wrong_password_or_database_is_one_message(
    tmp_path: Path, postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    postgres.execute("CREATE ROLE careful LOGIN PASSWORD 'another'")
    rules = postgres.folder / "data/pg_hba.conf"
    rules.write_text(f"local all careful scram-sha-256\n{rules.read_text()}")
    postgres.execute("SELECT pg_reload_conf()")
    place = f"?host={postgres.folder}"
    for url, words in (
        (f"postgresql://careful:{PASSWORD}@/postgres{place}", "password authentication failed"),
        (f"postgresql://postgres:{PASSWORD}@/nosuch{place}", 'database "nosuch" does not exist'),
    ):
        message = refusal(write_home(tmp_path, storage(url)), caplog)
        assert words in message
        assert "correct its address and password" in message


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("storage: {mysql: {mysql_url: 'mysql://me:PASSWORD@h/d'}}", "dagster_mysql"),
        ("storage: {postgres: {postgres_url: 'postgresql//me:PASSWORD@h/d'}}", "can't be read"),
        ("storage: {postgres: {postgres_url: 'postgresql://me:PA@SSWORD@h:p/d'}}", "can't be read"),
        ("storage: {postgres: {postgres_url: {env: NOT_SET}}}", '"NOT_SET" which is not set'),
        ("storage: {postgres: {PASSWORD: 1}}", "at path root:storage:postgres"),
        ("storage: {postgres: {postgres_db: {port: PASSWORD}}}", "root:storage:postgres"),
        ("storage: {postgres: {postgres_url: *PASSWORD}}", "line 2"),
        ("storage: {postgres: 'PASSWORD}", "line 3"),
    ],
)
def test_settings_that_are_wrong_are_one_message_without_a_value(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, settings: str, words: str
) -> None:
    home = write_home(tmp_path, settings.replace("PASSWORD", PASSWORD))
    message = refusal(home, caplog)
    assert message.startswith(f"{home}/dagster.yaml: is no settings of Dagster: ")
    assert words in message
    assert "Kq7" not in message


def test_a_driver_that_is_missing_is_named_with_what_to_install(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = write_home(tmp_path, storage(f"postgresql+pg8000://me:{PASSWORD}@h/d"))
    message = refusal(home, caplog)
    assert "whose package is missing (pg8000)" in message
    assert "flux-pipeline[postgres]" in message


@pytest.mark.parametrize("finished", [1, 4])
def test_a_database_that_stops_during_a_run_is_one_message_and_nothing_is_paid_twice(
    runner: AssetRunner,
    tmp_path: Path,
    postgres: PostgresServer,
    caplog: pytest.LogCaptureFixture,
    finished: int,
) -> None:
    """It stops when as many of four are finished: of the others some may still be running."""
    url = postgres.create_database()
    home = write_home(
        tmp_path,
        storage(
            url.replace("postgresql://postgres@", f"postgresql+psycopg2://postgres:{PASSWORD}@")
        ),
    )
    winter = runner.write(FOUR)
    results: list[Result] = []

    def stop(result: Result) -> None:
        results.append(result)
        if len(results) == finished:
            postgres.stop()

    with (
        open_instance(home) as instance,
        observing(stop),
        pytest.raises(HistoryError) as raised,
    ):
        launch_set(instance, runner.definitions(winter), winter)
    message = str(raised.value)
    assert len(results) >= finished, message
    assert message.startswith(f"{home}/dagster.yaml: storage: Dagster's database can't be used (")
    assert message.endswith("; the next run resumes what was accepted")
    assert PASSWORD not in message + caplog.text
    warnings = [each for each in caplog.records if each.levelno >= logging.WARNING]
    left_running = [each for each in warnings if each.msg == LEFT_RUNNING]
    assert len(left_running) <= (finished < 4)
    assert [each.getMessage()[:100] for each in warnings if each not in left_running] == []

    postgres.start()
    with open_instance(home) as instance:
        (launched,) = launch_set(instance, runner.definitions(winter), winter)
    assert launched.success
    assert runner.usage().creates_accepted == 4


def test_a_step_that_dagster_gives_up_ends_without_asking_the_database_that_failed(
    runner: AssetRunner, tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Storing an event fails outside the step, which then ends with the last reference to it."""
    home = write_home(
        tmp_path, storage(postgres.create_database().replace("postgresql:", "postgresql+psycopg2:"))
    )
    winter = runner.write(FOUR)
    read_prompts = SetEvents.prompts

    def stop_before_the_first_event(self: SetEvents) -> Iterator[dg.AssetMaterialization]:
        for event in read_prompts(self):
            postgres.stop()
            yield event

    monkeypatch.setattr(SetEvents, "prompts", stop_before_the_first_event)
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    with open_instance(home) as instance, pytest.raises(HistoryError):
        launch_set(instance, runner.definitions(winter), winter)
    gc.collect()
    assert unraisable == []


def test_an_address_without_the_driver_that_dagster_needs_says_which(
    runner: AssetRunner, tmp_path: Path, postgres: PostgresServer
) -> None:
    """Where no driver is named, SQLAlchemy 2.1 chooses another one than ``dagster-postgres``."""
    url = postgres.create_database().replace("postgresql:", "postgresql+psycopg:")
    winter = runner.write(FOUR)
    with (
        open_instance(write_home(tmp_path, storage(url))) as instance,
        pytest.raises(HistoryError, match=r"must begin with postgresql\+psycopg2://"),
    ):
        launch_set(instance, runner.definitions(winter), winter)
    assert runner.usage().creates_received == 0


def test_a_database_that_is_gone_before_a_job_is_one_message(
    runner: AssetRunner, tmp_path: Path, postgres: PostgresServer
) -> None:
    home = write_home(
        tmp_path, storage(postgres.create_database().replace("postgresql:", "postgresql+psycopg2:"))
    )
    winter = runner.write(FOUR)
    with open_instance(home) as instance:
        postgres.stop()
        with pytest.raises(HistoryError, match="Dagster's database can't be used"):
            launch_job(instance, runner.definitions(winter), runner.keys.job)
    assert runner.usage().creates_received == 0
