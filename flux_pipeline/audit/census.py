"""Every image as store, ledger and lineage know it, one row each, in a temporary database.

What is compared are any number of keys in three different orders. The database is SQLite's own
temporary one, which moves to disk as soon as it is large, so that memory stays flat.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

IMAGES = "images/"
"""Where the images lie in a store."""

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE images (
    key TEXT PRIMARY KEY,
    listed INTEGER NOT NULL DEFAULT 0, -- in the first listing of the store
    present INTEGER NOT NULL DEFAULT 0, -- in any listing of the store
    open INTEGER NOT NULL DEFAULT 0, -- of an attempt that is not over
    ledger_file TEXT, ledger_pixels TEXT, recorded INTEGER,
    lineage_file TEXT, lineage_pixels TEXT, lineage_at TEXT
) WITHOUT ROWID;
CREATE TABLE rows (
    sha TEXT, place INTEGER, stored INTEGER NOT NULL, PRIMARY KEY (sha, place)
) WITHOUT ROWID;
CREATE TABLE requests (seed INTEGER NOT NULL, sha TEXT NOT NULL);
CREATE INDEX requests_by_seed ON requests (seed);
"""
_LIST = "INSERT INTO images (key, listed, present) VALUES (?, 1, 1)"
_LIST_AGAIN = (
    "INSERT INTO images (key, present) VALUES (?, 1) ON CONFLICT DO UPDATE SET present = 1"
)
_OPEN = "INSERT INTO images (key, open) VALUES (?, 1) ON CONFLICT DO UPDATE SET open = 1"
_LEDGER = (
    "INSERT INTO images (key, ledger_file, ledger_pixels, recorded) VALUES (?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET ledger_file = excluded.ledger_file,"
    " ledger_pixels = excluded.ledger_pixels, recorded = excluded.recorded"
)
_LINEAGE = (
    "INSERT INTO images (key, lineage_file, lineage_pixels, lineage_at) VALUES (?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET lineage_file = excluded.lineage_file,"
    " lineage_pixels = excluded.lineage_pixels, lineage_at = excluded.lineage_at"
    " WHERE lineage_at IS NULL OR excluded.lineage_at >= lineage_at"
)
_ROW = (
    "INSERT INTO rows VALUES (?, ?, ?)"
    " ON CONFLICT DO UPDATE SET stored = max(stored, excluded.stored)"
)
_HAS_ROW = "SELECT 1 FROM rows WHERE sha = ? AND place = ? AND stored >= ?"
_COLUMNS = "key, ledger_file, ledger_pixels, recorded, lineage_file, lineage_pixels"


@dataclass(frozen=True, slots=True)
class Known:
    """What is recorded of one image; None where there is no record, empty where it has no hash."""

    key: str
    ledger_file: str | None = None
    ledger_pixels: str | None = None
    recorded: bool = False
    """Whether the ledger believes that the lineage table has it."""
    lineage_file: str | None = None
    lineage_pixels: str | None = None


class Census:
    """Filled from each side, then asked; for one thread."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(_TABLES)
        self._db.execute("BEGIN")  # one transaction for all of it, which nobody else reads

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._db.close()

    def add_stored(self, keys: Iterable[str]) -> None:
        """Add the store's keys; to be called first, and once."""
        self._db.executemany(_LIST, ((key,) for key in keys))

    def add_stored_meanwhile(self, keys: Iterable[str]) -> None:
        """Add the store's keys once more: what has come since then is not missing."""
        self._db.executemany(_LIST_AGAIN, ((key,) for key in keys))

    def add_open(self, key: str) -> None:
        """Add a key under which an attempt that is not over may store something any moment."""
        self._db.execute(_OPEN, (key,))

    def add_ledger(self, key: str, file: str, pixels: str, *, recorded: bool) -> None:
        """Add what the ledger knows as stored."""
        self._db.execute(_LEDGER, (key, file, pixels, recorded))

    def add_lineage(self, key: str, file: str, pixels: str, at: str) -> None:
        """Add a lineage row; of several with one key the last by time counts."""
        self._db.execute(_LINEAGE, (key, file, pixels, at))

    def add_row(self, request_sha256: str, output_index: int, *, stored: bool) -> None:
        """Note that the lineage table says what became of an image."""
        self._db.execute(_ROW, (request_sha256, output_index, stored))

    def has_row(self, request_sha256: str, output_index: int, *, stored: bool) -> bool:
        """Whether the table has a row of this image; with ``stored``, one that says it is there."""
        values = (request_sha256, output_index, stored)
        return self._db.execute(_HAS_ROW, values).fetchone() is not None

    def add_request(self, seed: int, request_sha256: str) -> None:
        """Remember a request by its seed, by which ``requests`` finds it."""
        self._db.execute("INSERT INTO requests VALUES (?, ?)", (seed, request_sha256))

    def requests(self, seed: int) -> list[str]:
        """The requests with this seed: one, or very few."""
        rows = self._db.execute("SELECT DISTINCT sha FROM requests WHERE seed = ?", (seed,))
        return [sha for (sha,) in rows]

    def count(self) -> int:
        """How many objects the first listing had."""
        row = self._db.execute("SELECT count(*) FROM images WHERE listed").fetchone()
        return int(row[0])

    def stored(self) -> Iterator[Known]:
        """Every object of the first listing, by key."""
        return self._select("listed")

    def missing(self) -> Iterator[Known]:
        """What is recorded as stored and was in no listing, by key."""
        return self._select("NOT present AND (ledger_file NOT NULL OR lineage_file NOT NULL)")

    def orphaned(self) -> Iterator[Known]:
        """Objects that ledger or lineage don't know, unless an open attempt explains them."""
        return self._select("listed AND NOT open AND (ledger_file IS NULL OR lineage_file IS NULL)")

    def unentered(self) -> Iterator[Known]:
        """Those of them that the ledger doesn't know."""
        return self._select("listed AND NOT open AND ledger_file IS NULL")

    def contradictory(self) -> Iterator[Known]:
        """Objects of which ledger and lineage have recorded different hashes."""
        return self._select(
            "listed AND (ledger_file <> '' AND lineage_file <> '' AND ledger_file <> lineage_file"
            " OR ledger_pixels <> '' AND lineage_pixels <> '' AND ledger_pixels <> lineage_pixels)"
        )

    def _select(self, condition: str) -> Iterator[Known]:
        statement = f"SELECT {_COLUMNS} FROM images WHERE {condition} ORDER BY key"
        for key, file, pixels, recorded, row_file, row_pixels in self._db.execute(statement):
            yield Known(key, file, pixels, bool(recorded), row_file, row_pixels)
