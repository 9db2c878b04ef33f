"""The ledger's tables, their version, and rows as values.

Every table is prefixed, so that the ledger can share a database with Dagster's own tables.
"""

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger.base import Attempt, Intent, State
from flux_pipeline.ledger.leases import Moment, Stamp

SCHEMA_VERSION = 4
"""Raised by one whenever a table changes; ``MIGRATIONS`` then leads from the one before to it."""
Migrations = Mapping[int, Callable[[Connection], None]]
STORE_ID, STORE_URI = "store_id", "store_uri"
"""Notes in ``flux_meta``: which store keeps what this ledger knows, and where that was."""
LEDGER_ID = "ledger_id"
"""A note in ``flux_meta``: by what other ledgers are told from this one."""

METADATA = sa.MetaData()

ATTEMPTS = sa.Table(
    "flux_attempts",
    METADATA,
    sa.Column("request_sha256", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("latest", sa.Boolean, nullable=False),  # the one that `find` shows and `claim` reads
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("claims", sa.Integer, nullable=False),  # how often it was claimed
    sa.Column("claimed_at", sa.Double, nullable=False),  # unix seconds, the ledger's clock
    sa.Column("lease_seconds", sa.Double, nullable=False),  # the claimer's own lease, not ours
    sa.Column("steady_at", sa.Double),  # the claim on the host's steady clock; see `leases`
    sa.Column("boot", sa.Text, nullable=False),  # which steady clock that was
    sa.Column("presence", sa.Text, nullable=False),  # the claimer's lock file; see `leases`
    sa.Column("intent_at", sa.Double, nullable=False),
    sa.Column("intent_steady", sa.Double),  # the intent by the writing host's time since its boot
    sa.Column("intent_boot", sa.Text),  # which boot that was; both are new in version 2
    sa.Column("prompt_set", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("cost_micros", sa.BigInteger, nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),  # JSON: the budgets that hold the cost
    sa.Column("request_json", sa.Text, nullable=False),
    sa.Column("acceptance", sa.Text),  # what identifies the paid creation, also where it has no id
    sa.Column("prediction_id", sa.Text),
    sa.Column("reply", sa.Text, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("retryable", sa.Boolean, nullable=False),
    sa.Column("images", sa.Text, nullable=False),
    sa.Column("recorded", sa.Boolean, nullable=False),
    sa.Column("resolution", sa.Text),
    # what other requests may send too, empty where none does; new in version 3
    sa.Column("input_sha256", sa.Text, nullable=False, server_default=""),
)

BUDGETS = sa.Table(
    "flux_budgets",
    METADATA,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("used_micros", sa.BigInteger, nullable=False),
)

RATES = sa.Table(
    "flux_rates",
    METADATA,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("boot", sa.Text, nullable=False),  # which clock the times below are read from
    sa.Column("next_at", sa.Double, nullable=False),
    sa.Column("share", sa.Double, nullable=False),
    sa.Column("slowed_at", sa.Double, nullable=False),
    sa.Column("paused_until", sa.Double, nullable=False),
    sa.Column("granted", sa.Double, nullable=False),
)

UPLOADS = sa.Table(
    "flux_uploads",  # new in version 3
    METADATA,
    sa.Column("provider", sa.Text, primary_key=True),
    sa.Column("sha256", sa.Text, primary_key=True),  # of the file's bytes
    sa.Column("url", sa.Text, primary_key=True),  # the address under which it was sent
    sa.Column("file_id", sa.Text, nullable=False),  # the provider's; empty for a link to the store
    sa.Column("expires_at", sa.Double, nullable=False),  # unix seconds; 0: not used again
)

META = sa.Table(
    "flux_meta",
    METADATA,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

_c = ATTEMPTS.c


_PARTIAL: list[tuple[sa.Index, sa.ColumnElement[bool]]] = []
"""Indexes with a condition."""


def _index(
    name: str,
    *columns: sa.Column[Any],
    where: sa.ColumnElement[bool] | None = None,
    unique: bool = False,
) -> sa.Index:
    index = sa.Index(name, *columns, unique=unique, sqlite_where=where)
    if where is not None:
        _PARTIAL.append((index, where))
    return index


# The database itself refuses a second latest attempt, whatever the code above it believes.
_index("flux_attempts_latest", _c.request_sha256, where=_c.latest, unique=True)

_index("flux_attempts_state", _c.state, _c.intent_at)

_index(
    "flux_attempts_unrecorded",
    _c.intent_at,
    _c.request_sha256,
    where=sa.and_(sa.not_(_c.recorded), _c.latest),
)

_index("flux_attempts_prediction", _c.prediction_id, where=_c.prediction_id.is_not(None))

_SHARED_INPUT = _index("flux_attempts_input", _c.input_sha256, where=_c.input_sha256 != "")


def _complete_indexes(connection: Connection) -> None:
    """Give the indexes their conditions on Postgres: at import that would load its dialect."""
    if connection.dialect.name == "postgresql":
        for index, where in _PARTIAL:
            index.dialect_kwargs["postgresql_where"] = where


def _add_steady_intent(connection: Connection) -> None:
    """From version 1: an attempt's age was measured on the wall clock alone."""
    for column, kind in (("intent_steady", "DOUBLE PRECISION"), ("intent_boot", "TEXT")):
        connection.exec_driver_sql(f"ALTER TABLE {ATTEMPTS.name} ADD COLUMN {column} {kind}")


def _add_shared_inputs_and_uploads(connection: Connection) -> None:
    """From version 2: every model took a seed, and pictures went in by an address of the user's."""
    connection.exec_driver_sql(
        f"ALTER TABLE {ATTEMPTS.name} ADD COLUMN input_sha256 TEXT NOT NULL DEFAULT ''"
    )
    _SHARED_INPUT.create(connection)
    UPLOADS.create(connection)


def _add_pruned_states(_connection: Connection) -> None:
    """From version 3: no table changes, but a release that knows no PRUNED can't read such rows."""


MIGRATIONS: Migrations = {
    1: _add_steady_intent,
    2: _add_shared_inputs_and_uploads,
    3: _add_pruned_states,
}
"""For each older version, the step that leads to the next one."""


def stored_version(connection: Connection) -> int | None:
    """Return the version of the tables in this database, or None where there are none yet.

    Raises:
        LedgerError: Where tables of ours lie without a version.
    """
    tables = set(sa.inspect(connection).get_table_names())
    if META.name not in tables:
        if ATTEMPTS.name in tables:
            raise LedgerError("holds attempts of an unknown version: restore it from a backup")
        return None
    text = read_meta(connection, "schema_version")
    if text is None or not text.isdigit():
        raise LedgerError("holds no readable schema version: restore it from a backup")
    return int(text)


def prepare(connection: Connection, migrations: Migrations = MIGRATIONS) -> None:
    """Create the tables, or lead older ones to this version; all within the open transaction.

    Raises:
        LedgerError: For a newer version, and for an older one to which no step is known.
    """
    version = stored_version(connection)
    _complete_indexes(connection)
    if version is None:
        METADATA.create_all(connection)
        write_meta(connection, "schema_version", str(SCHEMA_VERSION))
        return
    if version > SCHEMA_VERSION:
        raise LedgerError(
            f"has schema version {version}, newer than the {SCHEMA_VERSION} that this release "
            "writes: update flux-pipeline here, as elsewhere"
        )
    while version < SCHEMA_VERSION:
        if version not in migrations:
            raise LedgerError(
                f"has schema version {version}, older than every one that this release can read "
                f"({SCHEMA_VERSION}): open it once with the release that follows the one that "
                "wrote it"
            )
        migrations[version](connection)
        version += 1
        write_meta(connection, "schema_version", str(version))


def read_meta(connection: Connection, key: str) -> str | None:
    """Return the note about this ledger under a key, or None."""
    value: str | None = connection.scalar(sa.select(META.c.value).where(META.c.key == key))
    return value


def write_meta(connection: Connection, key: str, value: str) -> None:
    """Write a note about this ledger, within a transaction that has the write lock."""
    if connection.execute(META.update().where(META.c.key == key).values(value=value)).rowcount == 0:
        connection.execute(META.insert().values(key=key, value=value))


COLUMNS: tuple[sa.Column[Any], ...] = (
    _c.request_sha256,
    _c.number,
    _c.state,
    _c.holder,
    _c.claimed_at,
    _c.intent_at,
    _c.prompt_set,
    _c.run_id,
    _c.cost_micros,
    _c.request_json,
    _c.prediction_id,
    _c.reply,
    _c.error,
    _c.retryable,
    _c.images,
    _c.recorded,
    _c.resolution,
    _c.claims,
    _c.input_sha256,
)
"""Positional on purpose: reading by name costs more than the rest of the loading."""
CLAIM_COLUMNS = (
    *COLUMNS,
    _c.steady_at,
    _c.boot,
    _c.lease_seconds,
    _c.presence,
    _c.intent_steady,
    _c.intent_boot,
)
_STATES = {state.value: state for state in State}


def attempt_from(row: Any) -> Attempt:
    """Return the attempt of a row that starts with ``COLUMNS``."""
    sha, number, state, holder, claimed_at, intent_at, prompt_set, run_id, cost, request = row[:10]
    prediction_id, reply, error, retryable, images, recorded, resolution, claims = row[10:18]
    input_sha256 = row[18]
    return Attempt(
        sha,
        number,
        _STATES[state],
        holder,
        claimed_at,
        intent_at,
        Intent(sha, prompt_set, run_id, cost, request, input_sha256),
        prediction_id,
        reply,
        error,
        bool(retryable),  # SQLite has numbers
        images,
        bool(recorded),
        resolution,
        claims,
    )


def stamp_from(row: Any) -> Stamp:
    """Return the claim's stamp of a row of ``CLAIM_COLUMNS``."""
    steady, boot, lease_seconds, lock_file = row[len(COLUMNS) : len(COLUMNS) + 4]
    return Stamp(Moment(row[4], steady, boot), lease_seconds, lock_file)


def intent_moment_from(row: Any) -> Moment:
    """Return when the intent of a row of ``CLAIM_COLUMNS`` was written, by its host's clocks."""
    steady, boot = row[len(COLUMNS) + 4 :]
    return Moment(row[5], steady, boot or "")


def storable(text: str) -> str:
    """Return the text as every database takes it: without NUL and lone surrogates.

    A provider may answer with either, and a paid id must not be lost for it.
    """
    if text.isascii():
        return text.replace("\x00", "\\x00") if "\x00" in text else text
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
