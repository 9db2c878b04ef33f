"""Collects what store, ledger and lineage table record of each image, one row an image.

``Inventory`` holds the rows, ``load_ledger`` and ``load_lineage`` fill it, and its queries
(``missing``, ``orphaned``, ``contradictory``) give the differences. ``check_history`` judges the
attempts of one request by the ledger alone.
"""

import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from flux_pipeline.audit.findings import Finding, Kind
from flux_pipeline.errors import LedgerError, StoreError
from flux_pipeline.ledger.base import Attempt, State
from flux_pipeline.ledger.codec import load_request
from flux_pipeline.lineage.arrays import values_of
from flux_pipeline.lineage.parts import list_parts, read_parts
from flux_pipeline.lineage.record import ImageRecord, ImageStatus, records_from_json
from flux_pipeline.prediction import Status
from flux_pipeline.produce.ingest import image_keys
from flux_pipeline.request import Request
from flux_pipeline.store.base import Store, key_of

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -32768; -- KiB: the sides come in other orders than the keys
CREATE TABLE images (
    key TEXT PRIMARY KEY,
    listed INTEGER NOT NULL DEFAULT 0, -- in the first listing of the store
    present INTEGER NOT NULL DEFAULT 0, -- in any listing of the store
    open_sha TEXT, -- the request whose attempt is not over
    ledger_file TEXT, ledger_pixels TEXT, recorded INTEGER,
    lineage_file TEXT, lineage_pixels TEXT, lineage_at TEXT,
    removed_at TEXT -- when it was last removed on purpose
) WITHOUT ROWID;
CREATE TABLE rows (
    sha TEXT, place INTEGER, stored INTEGER NOT NULL,
    stored_at TEXT NOT NULL DEFAULT '', removed_at TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (sha, place)
) WITHOUT ROWID;
CREATE TABLE requests (mark TEXT NOT NULL, sha TEXT NOT NULL);
CREATE INDEX requests_by_mark ON requests (mark);
"""
_ADD_STORED = "INSERT INTO images (key, listed, present) VALUES (?, 1, 1)"
_ADD_STORED_MEANWHILE = (
    "INSERT INTO images (key, present) VALUES (?, 1)"
    " ON CONFLICT DO UPDATE SET present = 1 WHERE NOT present"
)
_ADD_OPEN = (
    "INSERT INTO images (key, open_sha) VALUES (?, ?)"
    " ON CONFLICT DO UPDATE SET open_sha = excluded.open_sha"
)
_OPEN_AND_STORED = (
    "SELECT open_sha FROM images WHERE open_sha NOT NULL GROUP BY open_sha"
    " HAVING min(listed AND lineage_file NOT NULL AND removed_at IS NULL) ORDER BY open_sha"
)
_ADD_LEDGER = (
    "INSERT INTO images (key, ledger_file, ledger_pixels, recorded) VALUES (?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET ledger_file = excluded.ledger_file,"
    " ledger_pixels = excluded.ledger_pixels, recorded = excluded.recorded"
)
_ADD_LINEAGE = (
    "INSERT INTO images (key, lineage_file, lineage_pixels, lineage_at) VALUES (?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET lineage_file = excluded.lineage_file,"
    " lineage_pixels = excluded.lineage_pixels, lineage_at = excluded.lineage_at"
    " WHERE lineage_at IS NULL OR excluded.lineage_at >= lineage_at"
)
_ADD_REMOVED = (
    "INSERT INTO images (key, removed_at) VALUES (?, ?)"
    " ON CONFLICT DO UPDATE SET removed_at = max(coalesce(removed_at, ''), excluded.removed_at)"
)
_ADD_ROW = (
    "INSERT INTO rows VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET stored = max(stored, excluded.stored),"
    " stored_at = max(stored_at, excluded.stored_at),"
    " removed_at = max(removed_at, excluded.removed_at)"
)
_ADD_REQUEST = "INSERT INTO requests VALUES (?, ?)"
_HAS_ROW = "SELECT stored, stored_at, removed_at FROM rows WHERE sha = ? AND place = ?"
_GONE_ON_PURPOSE = (
    "removed_at NOT NULL AND ledger_file IS NULL AND removed_at >= coalesce(lineage_at, '')"
)
_MOST_WAITING = 2_000
"""Values that wait to be written."""
_UNDER_WAY = "~"  # after every time
_SELECTED = (
    "key, ledger_file, ledger_pixels, recorded, lineage_file, lineage_pixels, removed_at NOT NULL"
)

_LINEAGE_COLUMNS = [
    "request_sha256",
    "output_index",
    "status",
    "uri",
    "file_sha256",
    "image_sha256",
    "stored_at",
    "removed_at",
]
_WITH_IMAGES = frozenset({State.STORED, State.PRUNING, State.PRUNED})

_HELD = (
    "may have been paid, and nothing can prove it; look for it at the provider, then end it with"
    " `flux-pipeline held adopt`, `resend` or `drop`"
)
_DUPLICATE = (
    "accepted after it had been given up, and another prediction of the same request was paid too;"
    " ask the provider for the money"
)
_RESENT = (
    "possibly: an earlier create of this request was never answered and it was sent again; if the"
    " provider shows two, `flux-pipeline held adopt` notes the other one"
)
_NEW_SEED = "to have it, ask for it anew with another seed or take"


@dataclass(frozen=True, slots=True)
class InventoryRow:
    """The records of one image: None where a side has no record, empty where it has no hash."""

    key: str
    ledger_file: str | None = None
    ledger_pixels: str | None = None
    recorded: bool = False
    """Whether the ledger believes that the lineage table has it."""
    lineage_file: str | None = None
    lineage_pixels: str | None = None
    removed: bool = False
    """Whether it was removed on purpose at some time."""


class Inventory:
    """Records of any number of images, in a temporary database; for one thread."""

    def __init__(self) -> None:
        # Three sides list the keys in three orders, so they are joined in a database. One without
        # a name is SQLite's own temporary one: it moves to disk once it is large, and memory stays
        # flat.
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(_SCHEMA)
        self._db.execute("BEGIN")  # one transaction for all of it, which nobody else reads
        # By statement. They write different columns, so that their order makes no difference.
        self._waiting: dict[str, list[tuple[object, ...]]] = {}

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
        self._db.executemany(_ADD_STORED, ((key,) for key in keys))

    def add_stored_meanwhile(self, keys: Iterable[str]) -> None:
        """Add the store's keys once more: what was stored since the first listing is there too."""
        self._db.executemany(_ADD_STORED_MEANWHILE, ((key,) for key in keys))

    def add_open(self, key: str, request_sha256: str) -> None:
        """Add a key under which an attempt that is not over may store something any moment."""
        self._add(_ADD_OPEN, (key, request_sha256))

    def add_ledger(self, key: str, file: str, pixels: str, *, recorded: bool) -> None:
        """Add an image that the ledger has as stored, with its two SHA-256 hashes."""
        self._add(_ADD_LEDGER, (key, file, pixels, recorded))

    def add_lineage(self, key: str, file: str, pixels: str, at: str) -> None:
        """Add a stored image's lineage row; of several with one key the last by time counts."""
        self._add(_ADD_LINEAGE, (key, file, pixels, at))

    def add_removed(self, key: str, at: str = _UNDER_WAY) -> None:
        """Add an image that was removed on purpose, or that is being removed."""
        self._add(_ADD_REMOVED, (key, at))

    def add_row(
        self,
        request_sha256: str,
        output_index: int,
        *,
        stored: bool,
        stored_at: str = "",
        removed_at: str = "",
    ) -> None:
        """Note that the lineage table has a row of an image: stored, removed since, or neither."""
        values = (request_sha256, output_index, stored, stored_at, removed_at)
        self._add(_ADD_ROW, values)

    def has_row(self, request_sha256: str, output_index: int, *, status: ImageStatus) -> bool:
        """Whether the table has a row of this image that says as much as one of this status.

        A row that says it is stored is worth nothing once a later one says it was removed.
        """
        row = self._read(_HAS_ROW, (request_sha256, output_index)).fetchone()
        if row is None:
            return False
        is_stored, stored_at, removed_at = row
        is_removed = bool(removed_at) and removed_at >= stored_at
        if status is ImageStatus.REMOVED:
            return is_removed
        return status is not ImageStatus.STORED or (bool(is_stored) and not is_removed)

    def add_request(self, request: Request) -> None:
        """Remember a request by its seed, else by its prompt: so ``requests`` finds it."""
        mark = request.input.get("prompt", "") if request.seed is None else request.seed
        self._add(_ADD_REQUEST, (str(mark), request.request_sha256))

    def requests(self, sent: Mapping[str, Any]) -> list[str]:
        """The requests of which this may be the input, as a provider shows it.

        One or very few; all those without a seed whose prompt is this one, or that have none.
        """
        marks = {str(each) for each in sent.values() if type(each) is int}
        marks.add(str(sent.get("prompt", "")))
        found: set[str] = set()
        for mark in marks:
            rows = self._read("SELECT sha FROM requests WHERE mark = ?", (mark,))
            found.update(sha for (sha,) in rows)
        return sorted(found)

    def count(self) -> int:
        """How many objects the first listing had."""
        row = self._read("SELECT count(*) FROM images WHERE listed").fetchone()
        return int(row[0])

    def stored(self) -> Iterator[InventoryRow]:
        """Every object of the first listing, by key."""
        return self._select("listed")

    def missing(self) -> Iterator[InventoryRow]:
        """Images recorded as stored and in no listing, by key; not those removed on purpose."""
        return self._select(
            "NOT present AND (ledger_file NOT NULL OR lineage_file NOT NULL)"
            f" AND NOT ({_GONE_ON_PURPOSE})"
        )

    def orphaned(self) -> Iterator[InventoryRow]:
        """Objects that ledger or lineage don't know, unless an open attempt explains them."""
        return self._select(
            "listed AND open_sha IS NULL AND (ledger_file IS NULL OR lineage_file IS NULL)"
        )

    def unentered(self) -> Iterator[InventoryRow]:
        """The objects that the ledger doesn't have as stored, those of open attempts too."""
        return self._select("listed AND ledger_file IS NULL")

    def open_and_stored(self) -> list[str]:
        """Requests with an open attempt, of which every image is in the store and the lineage."""
        return [sha for (sha,) in self._read(_OPEN_AND_STORED)]

    def contradictory(self) -> Iterator[InventoryRow]:
        """Objects of which ledger and lineage have recorded different hashes."""
        return self._select(
            "listed AND (ledger_file <> '' AND lineage_file <> '' AND ledger_file <> lineage_file"
            " OR ledger_pixels <> '' AND lineage_pixels <> '' AND ledger_pixels <> lineage_pixels)"
        )

    def _select(self, condition: str) -> Iterator[InventoryRow]:
        statement = f"SELECT {_SELECTED} FROM images WHERE {condition} ORDER BY key"
        for key, file, pixels, recorded, row_file, row_pixels, gone in self._read(statement):
            yield InventoryRow(key, file, pixels, bool(recorded), row_file, row_pixels, bool(gone))

    def _add(self, statement: str, values: tuple[object, ...]) -> None:
        waiting = self._waiting.setdefault(statement, [])
        waiting.append(values)
        if len(waiting) >= _MOST_WAITING:
            self._db.executemany(statement, waiting)
            waiting.clear()

    def _read(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        for adding, waiting in self._waiting.items():
            if waiting:
                self._db.executemany(adding, waiting)
                waiting.clear()
        return self._db.execute(statement, values)


def load_ledger(
    attempts: Iterable[Attempt],
    inventory: Inventory,
    *,
    store_uri: str,
    listed_since: float = math.inf,
) -> Iterator[Finding]:
    """Add the images of every attempt, and yield the findings of each request's history.

    ``attempts`` are ordered by request. ``listed_since``: unix seconds; the requests of attempts
    since then are remembered by their seed or prompt, to be compared with the provider's list.
    """
    for _, group in groupby(attempts, key=lambda attempt: attempt.request_sha256):
        history = list(group)
        yield from check_history(history)
        for attempt in history:
            if attempt.state in _WITH_IMAGES:
                _add_images(attempt, inventory, store_uri)
            if attempt.state.is_open or attempt.intent_at > listed_since:
                _add_request(attempt, inventory)


def load_lineage(store: Store, inventory: Inventory) -> Iterator[Finding]:
    """Add every row of the lineage table; yield a finding for each part that can't be read.

    The parts are read and not the compacted table, which is derived from them.

    Raises:
        StoreError: Where the store can't be listed.
    """
    keys, uri = list(list_parts(store)), store.uri
    # ``read_parts`` ends at the first part that can't be read: go on behind that one.
    while keys:
        read = 0
        try:
            for _, table in read_parts(store, keys):
                read += 1
                _add_rows(table, inventory, uri)
        except StoreError as error:
            # A part that was deleted since the listing is no finding.
            if keys[read] in store.list(keys[read]):
                yield Finding(Kind.UNREADABLE, keys[read], str(error))
        keys = keys[read + 1 :]


def _add_rows(table: pa.Table, inventory: Inventory, store_uri: str) -> None:
    columns = [values_of(table.column(name)) for name in _LINEAGE_COLUMNS]
    for sha, place, status, uri, file, pixels, stored_at, removed in zip(*columns, strict=True):
        stored = status == ImageStatus.STORED
        at = str(stored_at or "") if stored else ""
        removed_at = str(removed or "")
        inventory.add_row(sha, place, stored=stored, stored_at=at, removed_at=removed_at)
        if removed_at and uri:
            inventory.add_removed(key_of(uri, store_uri), removed_at)
        if stored and uri:
            inventory.add_lineage(key_of(uri, store_uri), file or "", pixels or "", at)


def _add_images(attempt: Attempt, inventory: Inventory, store_uri: str) -> None:
    try:
        records = _records(attempt.images)
    except ValueError:
        return  # check_history reports it
    for record in records:
        if record.status is ImageStatus.STORED and record.uri:
            inventory.add_ledger(
                key_of(record.uri, store_uri),
                record.file_sha256 or "",
                record.image_sha256 or "",
                recorded=attempt.recorded,
            )
        elif record.status is ImageStatus.REMOVED and record.uri:
            at = _UNDER_WAY if attempt.state is State.PRUNING else str(record.removed_at or "")
            inventory.add_removed(key_of(record.uri, store_uri), at)


@lru_cache(maxsize=16)  # each is asked for twice, one after the other
def _records(images: str) -> tuple[ImageRecord, ...]:
    return tuple(records_from_json(images))


def _add_request(attempt: Attempt, inventory: Inventory) -> None:
    try:
        request = load_request(attempt.intent.request_json)
    except LedgerError:
        return  # a rescue reports it
    inventory.add_request(request)
    if attempt.state.is_open:
        for index in range(request.outputs):
            for key in image_keys(request, index):
                inventory.add_open(key, request.request_sha256)


def check_history(attempts: Sequence[Attempt]) -> Iterator[Finding]:
    """Yield what is wrong with all attempts of one request (oldest first), by the ledger alone.

    An open attempt is no finding: a run is at work on it, or a rescue will be.
    """
    for place, attempt in enumerate(attempts):
        named = attempt.prediction_id or attempt.request_sha256
        match attempt.state:
            case State.HELD:
                yield Finding(Kind.HELD, attempt.request_sha256, _HELD)
            case State.DUPLICATE:
                yield Finding(Kind.PAID_TWICE, named, _DUPLICATE)
            case State.RESENT:
                yield Finding(Kind.PAID_TWICE, attempt.request_sha256, _RESENT)
            case State.STORED:
                yield from _not_stored(attempt, named)
            case _ if is_paid_in_vain(attempt):
                yield from _lost_or_paid_again(attempt, attempts[place + 1 :], named)


def is_paid_in_vain(attempt: Attempt) -> bool:
    """Whether the attempt is over, was paid for, and left no image at all."""
    if attempt.state is State.EXPIRED:
        return True
    return attempt.state is State.FAILED and _status(attempt.reply) == Status.SUCCEEDED


def _lost_or_paid_again(
    attempt: Attempt, later: Sequence[Attempt], named: str
) -> Iterator[Finding]:
    """The paid prediction is lost, or was one too many where the request was paid for again."""
    followers = [each for each in later if each.state is not State.DUPLICATE]
    if any(_is_paid(each) for each in followers):
        yield Finding(Kind.PAID_TWICE, named, f"{_reason(attempt)}; and made again, paid again")
    elif not any(each.state is State.INTENT for each in followers):
        yield Finding(Kind.LOST, named, f"{_reason(attempt)}; {_NEW_SEED}")


def _not_stored(attempt: Attempt, named: str) -> Iterator[Finding]:
    """Images that a finished attempt paid for and could not store."""
    try:
        records = _records(attempt.images)
    except ValueError:
        message = "its records in the ledger can't be read; restore the ledger from a backup"
        yield Finding(Kind.UNREADABLE, attempt.request_sha256, message)
        return
    for record in records:
        if record.status is ImageStatus.FAILED:
            reason = record.error or "no reason given"
            message = f"image {record.output_index}: {reason}; {_NEW_SEED}"
            yield Finding(Kind.LOST, named, message)


def _is_paid(attempt: Attempt) -> bool:
    paid = attempt.state in {State.ACCEPTED, State.SUCCEEDED} | _WITH_IMAGES
    return paid or is_paid_in_vain(attempt)


def _reason(attempt: Attempt) -> str:
    return attempt.error or "paid, and not stored"


def _status(reply: str) -> str:
    """The status word of the ledger's copy of a reply."""
    try:
        found = json.loads(reply or "{}")
    except ValueError:
        return ""
    return str(found.get("status", "")) if isinstance(found, dict) else ""
