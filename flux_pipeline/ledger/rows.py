"""Attempts as rows: the columns to load, in order, and the value that they make."""

from typing import Any

import sqlalchemy as sa

from flux_pipeline.ledger.base import Attempt, Intent, State
from flux_pipeline.ledger.lease import Moment, Stamp
from flux_pipeline.ledger.schema import ATTEMPTS

_c = ATTEMPTS.c
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
)
"""Positional on purpose: reading by name costs more than the rest of the loading."""

CLAIM_COLUMNS = (*COLUMNS, _c.steady_at, _c.boot, _c.lease_seconds, _c.presence)

_STATES = {state.value: state for state in State}


def attempt_from(row: Any) -> Attempt:
    """Return the attempt of a row that starts with ``COLUMNS``."""
    sha, number, state, holder, claimed_at, intent_at, prompt_set, run_id, cost, request = row[:10]
    prediction_id, reply, error, retryable, images, recorded, resolution, claims = row[10:18]
    return Attempt(
        sha,
        number,
        _STATES[state],
        holder,
        claimed_at,
        intent_at,
        Intent(sha, prompt_set, run_id, cost, request),
        prediction_id,
        reply,
        error,
        retryable,
        images,
        recorded,
        resolution,
        claims,
    )


def stamp_from(row: Any) -> Stamp:
    """Return the claim's stamp of a row of ``CLAIM_COLUMNS``."""
    steady, boot, lease_seconds, presence = row[len(COLUMNS) :]
    return Stamp(Moment(row[4], steady, boot), lease_seconds, presence)


def storable(text: str) -> str:
    """Return the text as every database takes it: without NUL and lone surrogates.

    A provider may answer with either, and a paid id must not be lost for it.
    """
    if text.isascii():
        return text.replace("\x00", "\\x00") if "\x00" in text else text
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
