"""What the API received, accepted and charged for, counted on the provider's side.

It is counted in the transactions that accept predictions, so a client that lost a reply can't
distort it. Keys are kept as fingerprints only, so that none can leak from the state's directory.
"""

import hashlib
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from flux_pipeline.emulator import files, records
from flux_pipeline.emulator.files import FetchedPicture
from flux_pipeline.emulator.records import FILE_NAME, State, tally

CREATE_ROUTES = frozenset(
    f"POST {prefix}/v1/{path}"
    for prefix in ("", "/replicate")
    for path in ("predictions", "models/{id}/predictions")
)


class Duplicate(BaseModel):
    """One (version, input) that was accepted, and charged, more than once."""

    model_config = ConfigDict(frozen=True)

    input_sha: str
    ids: tuple[str, ...]


class AcceptedPrediction(BaseModel):
    """One accepted prediction."""

    model_config = ConfigDict(frozen=True)

    id: str
    input_sha: str
    version: str
    input: dict[str, Any]
    """As accepted: kept even when the API shows it no more."""
    created_at: float
    """s since the epoch"""
    status: str
    cost_usd: float
    model: str = ""
    """``owner/name``, where it was named or has a contract."""
    pictures: tuple[FetchedPicture, ...] = ()
    """What it was made from, in order."""


class Usage(BaseModel):
    """Counts over all requests to one state since it was made, over all processes."""

    model_config = ConfigDict(frozen=True)

    creates_received: int
    """Every POST of a prediction that arrived, whatever came of it."""
    creates_accepted: int
    charged_usd: float
    distinct_inputs: int
    """(version, input) pairs; equal to ``creates_accepted`` where nothing was paid twice."""
    duplicates: tuple[Duplicate, ...]
    predictions: tuple[AcceptedPrediction, ...]
    """In order of acceptance; empty where they were not asked for."""
    keys_by_host: dict[str, dict[str, int]]
    """Host header to key fingerprint to requests; requests without a key are not in it."""
    keys_by_route: dict[str, dict[str, int]]
    requests_by_route: dict[str, int]
    uploads: dict[str, int]
    """SHA-256 of an uploaded file to the times that it was stored."""
    faults: dict[str, int]
    """Such as ``create.reset_after`` to the number of times."""


def build_usage(state: State, now: float, *, predictions: bool = True) -> Usage:
    """The usage until now; ``now`` (s since the epoch) determines the statuses."""
    with state.reading() as connection:
        tallies = {
            (row["kind"], row["name"]): int(row["count"])
            for row in connection.execute("SELECT * FROM tallies")
        }
        totals = connection.execute(
            "SELECT count(*) AS accepted, coalesce(sum(cost_usd), 0) AS charged,"
            " count(DISTINCT input_sha) AS distinct_inputs FROM predictions"
        ).fetchone()
        pictures = _pictures(connection) if predictions else {}
        uploads = connection.execute("SELECT sha256, count(*) FROM files GROUP BY sha256")
        rows = connection.execute("SELECT * FROM predictions ORDER BY seq") if predictions else ()
        return Usage(
            creates_received=sum(tallies.get(("route", name), 0) for name in CREATE_ROUTES),
            creates_accepted=totals["accepted"],
            charged_usd=round(totals["charged"], 9),
            distinct_inputs=totals["distinct_inputs"],
            duplicates=_duplicates(connection),
            predictions=tuple(
                _prediction(records.from_row(row), now, pictures.get(row["id"], ())) for row in rows
            ),
            keys_by_host=_keys(connection, "host"),
            keys_by_route=_keys(connection, "route"),
            uploads={row[0]: int(row[1]) for row in uploads},
            requests_by_route=_of_kind(tallies, "route"),
            faults=_of_kind(tallies, "fault"),
        )


def read_usage(directory: Path, *, predictions: bool = True, now: float | None = None) -> Usage:
    """Read the usage from the state in a directory; no emulator need be running.

    Raises:
        FileNotFoundError: Where the directory holds no state.
    """
    if not (directory / FILE_NAME).is_file():
        raise FileNotFoundError(f"{directory}: no emulator state here; is it the right --state?")
    with State(directory) as state:
        moment = time.time() if now is None else now
        return build_usage(state, moment, predictions=predictions)


def fingerprint_key(key: str) -> str:
    """The fingerprint by which an API key is counted."""
    return f"sha256:{hashlib.sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"


def note_request(connection: sqlite3.Connection, host: str, route: str, key: str) -> int:
    """Count a request and its key, if any; returns the number of requests by this route."""
    if key:
        connection.execute(
            "INSERT INTO keys_seen VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1",
            (host[:255], route, fingerprint_key(key)),
        )
    return tally(connection, "route", route)


def _prediction(
    record: records.Record, now: float, pictures: Sequence[FetchedPicture]
) -> AcceptedPrediction:
    return AcceptedPrediction(
        id=record.id,
        input_sha=record.input_sha,
        version=record.version,
        input=dict(record.input),
        created_at=record.created_at,
        status=record.life.at(now, retention_seconds=0).status,
        cost_usd=record.cost_usd,
        model=record.model,
        pictures=tuple(pictures),
    )


def _pictures(connection: sqlite3.Connection) -> dict[str, list[FetchedPicture]]:
    """The pictures that went in, by prediction."""
    found: dict[str, list[FetchedPicture]] = {}
    for row in connection.execute("SELECT * FROM fetched ORDER BY prediction_id, place"):
        found.setdefault(row["prediction_id"], []).append(files.fetched_from_row(row))
    return found


def _duplicates(connection: sqlite3.Connection) -> tuple[Duplicate, ...]:
    rows = connection.execute(
        "SELECT input_sha, id FROM predictions WHERE input_sha IN"
        " (SELECT input_sha FROM predictions GROUP BY input_sha HAVING count(*) > 1) ORDER BY seq"
    )
    ids: dict[str, list[str]] = {}
    for row in rows:
        ids.setdefault(row["input_sha"], []).append(row["id"])
    return tuple(Duplicate(input_sha=sha, ids=tuple(same)) for sha, same in ids.items())


def _keys(connection: sqlite3.Connection, by: str) -> dict[str, dict[str, int]]:
    keys: dict[str, dict[str, int]] = {}
    for row in connection.execute("SELECT * FROM keys_seen"):
        counts = keys.setdefault(row[by], {})
        counts[row["key"]] = counts.get(row["key"], 0) + int(row["count"])
    return keys


def _of_kind(tallies: dict[tuple[str, str], int], kind: str) -> dict[str, int]:
    return {name: count for (of_kind, name), count in sorted(tallies.items()) if of_kind == kind}
