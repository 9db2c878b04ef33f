"""From a URL to a ledger, or to an error that says what to do and no password."""

import sqlite3
import stat
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger import schema
from flux_pipeline.ledger.base import State
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.sql import SqlLedger
from tests.ledger.attempts import LEASE, Clock, begin, claimed, intent, latest
from tests.ledger.workers import child, claim_one, read_then_write
from tests.servers.postgres import PostgresServer


def set_version(url: str, version: str) -> None:
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE flux_meta SET value = ?", (version,))
    connection.close()


def test_folders_are_made_and_the_file_is_this_users(sqlite_url: str, tmp_path: Path) -> None:
    with open_ledger(sqlite_url) as ledger:
        begin(ledger)
        for name in ("ledger.db", "ledger.db-wal"):
            assert stat.S_IMODE((tmp_path / "data" / name).stat().st_mode) == 0o600


def test_what_was_written_is_there_again(sqlite_url: str) -> None:
    with open_ledger(sqlite_url) as ledger:
        begin(ledger)
    with open_ledger(sqlite_url) as ledger:
        assert latest(ledger).state is State.INTENT


def test_a_relative_path_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_ledger("sqlite:///data/ledger.db") as ledger:
        monkeypatch.chdir("/")
        begin(ledger)
        assert ledger.name == f"ledger {tmp_path}/data/ledger.db"


def test_commits_are_durable_and_readers_never_wait(sqlite_url: str) -> None:
    with open_ledger(sqlite_url) as ledger, ledger.transaction() as tx:
        connection = tx.connection
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///a.db?mode=ro",
        "sqlite:///a.db?ro",
        "sqlite://data/a.db",
        "sqlite://user@/a.db",
    ],
)
def test_a_ledger_is_one_file(url: str) -> None:
    with pytest.raises(LedgerError, match="must be one file"):
        open_ledger(url)


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("mysql://u:s3cret@h/d", "can't be kept in mysql"),
        ("not a url s3cret", "can't be read"),
        ("postgresql://u:s3cret@h:port/d", "can't be read"),
        (
            "postgresql://u:s3cret@127.0.0.1:1/d?connect_timeout=1",
            "127.0.0.1:1/d: can't be reached",
        ),
    ],
)
def test_what_can_not_be_opened_is_named_without_its_password(url: str, what: str) -> None:
    with pytest.raises(LedgerError) as caught:
        open_ledger(url)
    assert what in str(caught.value)
    error: BaseException | None = caught.value
    while error is not None:
        assert "s3cret" not in f"{error!r} {error}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@pytest.mark.parametrize("password", ["p@s3cret", "s3cret/x", "12/s3cret", "s3cret#", "s3cret%x"])
@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "nothing"])
def test_an_ambiguous_address_is_refused_before_it_is_parsed(scheme: str, password: str) -> None:
    with pytest.raises(LedgerError, match=r"FLUX_LEDGER\) can't be read: it .* encode @") as caught:
        open_ledger(f"{scheme}://user:{password}@host/data")
    assert "s3cret" not in repr(caught.getrepr(chain=True, style="native", showlocals=False))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("pgbouncer=true", "does not know: pgbouncer. Take it out: a pooler needs no option"),
        ("connection_limit=5&schema=x", "does not know: connection_limit, schema."),
        ("ssl_mode=require", "did you mean sslmode?"),
        ("pgbouncer", "does not know: pgbouncer."),
        ("plugin=x", "does not know: plugin."),
        ("prepare_threshold=0", "does not know: prepare_threshold."),
        ("sslmode=", "holds sslmode without a value"),
        ("sslmode", "holds sslmode without a value"),
        ("sslmode=disable&sslmode=require", "holds sslmode twice"),
        ("sslmode=maybe", "whose value is wrong"),
        ("connect_timeout=soon", "whose value is wrong"),
        ("port=x", "host and port of FLUX_LEDGER can't be read"),
        ("host=a,b&port=1,2,3", "host and port of FLUX_LEDGER can't be read"),
        ("password=s3&cret=1", "does not know: an option."),
        ("password=s3&sslmode", "holds an option without a value"),
    ],
)
def test_an_option_that_can_not_be_used_is_named(options: str, words: str) -> None:
    pytest.importorskip("psycopg", reason="needs Postgres: uv sync --extra postgres")
    with pytest.raises(LedgerError) as caught:
        open_ledger(f"postgresql://user:s3cret@127.0.0.1:1/data?{options}")
    assert words in str(caught.value)
    assert "FLUX_LEDGER" in str(caught.value)
    assert "cret" not in str(caught.value)
    assert "s3" not in str(caught.value)


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"file/ledger\.db: can't be opened"):
        open_ledger(f"sqlite:///{tmp_path}/file/ledger.db")


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("these are not the rows you are looking for" * 50)
    with pytest.raises(LedgerError, match="is no ledger but another kind of file"):
        open_ledger(f"sqlite:///{tmp_path}/notes.txt")


@pytest.mark.parametrize(
    ("version", "what"),
    [
        ("5", "schema version 5, newer than the 4 .* update flux-pipeline"),
        ("0", "schema version 0, older than .* open it once with the release"),
        ("one", "no readable schema version: restore"),
    ],
)
def test_another_schema_is_refused_with_what_to_do(
    sqlite_url: str, version: str, what: str
) -> None:
    open_ledger(sqlite_url).dispose()
    set_version(sqlite_url, version)
    with pytest.raises(LedgerError, match=rf"ledger\.db: .*{what}"):
        open_ledger(sqlite_url)


def test_attempts_without_a_version_are_refused(sqlite_url: str) -> None:
    with open_ledger(sqlite_url) as ledger, ledger.transaction() as tx:
        schema.META.drop(tx.connection)
    with pytest.raises(LedgerError, match="attempts of an unknown version"):
        open_ledger(sqlite_url)


def test_an_older_schema_is_led_on_step_by_step(sqlite_url: str) -> None:
    open_ledger(sqlite_url).dispose()
    set_version(sqlite_url, "0")
    steps: list[int] = []
    versions = range(schema.SCHEMA_VERSION)
    migrations = {version: partial(_note, steps, version) for version in versions}
    engine = sa.create_engine(sqlite_url)
    with engine.begin() as connection:
        schema.prepare(connection, migrations)
        assert schema.stored_version(connection) == schema.SCHEMA_VERSION
    engine.dispose()
    assert steps == list(versions)
    open_ledger(sqlite_url).dispose()


def _note(steps: list[int], version: int, _connection: sa.Connection) -> None:
    steps.append(version)


def as_version_1(ledger: SqlLedger) -> None:
    """Give the ledger the tables of version 1, with the rows that it holds."""
    with ledger.transaction() as tx:
        tx.connection.exec_driver_sql("DROP TABLE flux_uploads")
        tx.connection.exec_driver_sql("DROP INDEX flux_attempts_input")
        tx.connection.exec_driver_sql("ALTER TABLE flux_attempts DROP COLUMN input_sha256")
        for column in ("intent_steady", "intent_boot"):
            tx.connection.exec_driver_sql(f"ALTER TABLE flux_attempts DROP COLUMN {column}")
        schema.write_meta(tx.connection, "schema_version", "1")


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_ledger_of_version_1_goes_on(
    database: str, sqlite_url: str, request: pytest.FixtureRequest
) -> None:
    """Its open attempts have no steady clock: their age is the wall clock's."""
    url = sqlite_url
    if database == "postgres":
        url = request.getfixturevalue("postgres").create_database()
    clock = Clock()
    with open_ledger(url, lease_seconds=LEASE, clock=clock) as ledger:
        first = begin(ledger)
        as_version_1(ledger)

    clock.advance(LEASE)
    with open_ledger(url, lease_seconds=LEASE, clock=clock) as ledger:
        assert latest(ledger) == first
        taken = claimed(ledger.claim(intent(), holder="b"), fresh=False)
        assert (taken.steady_age, taken.age) == (None, LEASE)
        begin(ledger, 2)
        clock.advance(LEASE)
        later = claimed(ledger.claim(intent(2), holder="b"), fresh=False)
        assert (later.steady_age, later.age) == (LEASE, LEASE)


def test_other_tables_in_the_same_database_are_left_alone(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with sqlite3.connect(tmp_path / "data" / "ledger.db") as connection:
        connection.execute("CREATE TABLE runs (id)")
        connection.execute("INSERT INTO runs VALUES (1)")
    connection.close()
    with open_ledger(sqlite_url) as ledger:
        begin(ledger)
        with ledger.transaction() as tx:
            assert tx.connection.exec_driver_sql("SELECT id FROM runs").scalar() == 1
    assert all(name.startswith("flux_") for name in schema.METADATA.tables)


def test_every_spelling_of_postgres_means_psycopg_3(postgres: PostgresServer) -> None:
    url = postgres.create_database()
    for request, scheme in enumerate(["postgresql", "postgres", "postgresql+psycopg2"]):
        with open_ledger(url.replace("postgresql", scheme, 1)) as ledger:
            begin(ledger, request)
            assert latest(ledger, request).state is State.INTENT


def test_a_missing_database_is_named(postgres: PostgresServer) -> None:
    url = postgres.url.replace("/postgres?", "/nowhere?")
    with pytest.raises(LedgerError, match=r"/nowhere: does not exist|/nowhere: can't be reached"):
        open_ledger(url)


def test_a_read_only_file_can_be_read_and_not_written() -> None:
    with tempfile.TemporaryDirectory() as name:  # not tmp_path: others may not look in there
        folder = Path(name)
        url = f"sqlite:///{folder}/ledger.db"
        with open_ledger(url) as ledger:
            begin(ledger)
        folder.chmod(0o777)
        (folder / "ledger.db.workers").chmod(0o777)
        (folder / "ledger.db").chmod(0o444)
        with child(read_then_write, url) as other:
            assert other.hear() == [State.INTENT]
            assert "ledger.db: is read-only" in other.hear()


def test_opening_again_keeps_the_locks_that_are_held(sqlite_url: str, tmp_path: Path) -> None:
    with open_ledger(sqlite_url) as first:
        begin(first, 1)
        open_ledger(sqlite_url).dispose()  # must not close a file of its own on the database
        with child(claim_one, sqlite_url) as other:
            assert other.hear() == "claimed"
            other.process.join()
        log = tmp_path / "data" / "ledger.db-wal"
        assert log.exists(), "the other process took itself for the last user and removed the log"


def test_nothing_is_left_beside_the_file(sqlite_url: str, tmp_path: Path) -> None:
    with open_ledger(sqlite_url) as ledger:
        begin(ledger)
    assert {path.name for path in (tmp_path / "data").iterdir()} == {
        "ledger.db",
        "ledger.db.workers",
    }


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(LedgerError, match=r"install flux-pipeline\[postgres\]"):
        open_ledger("postgresql://127.0.0.1/d")


def test_an_sqlite_that_is_too_old_is_named(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 0))
    with pytest.raises(LedgerError, match=r"is too old: 3\.35 or newer"):
        open_ledger(sqlite_url)
