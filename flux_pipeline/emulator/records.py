"""Predictions as they lie in the database: written once, found by id, and listed newest first."""

import json
import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from flux_pipeline.emulator.inputs import ModelInput
from flux_pipeline.emulator.lifecycle import Interruption, Life, Plan

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


@dataclass(frozen=True)
class Record:
    """One accepted prediction: what was asked, what it cost, what will become of it."""

    id: str
    input_sha: str
    """Names the (version, input) pair."""
    ordinal: int
    """0-based: how many predictions of the same input were accepted before."""
    created_at: float
    """s since the epoch"""
    model: str
    version: str
    input: Mapping[str, Any] = field(hash=False)
    """As sent, without the inputs that the model doesn't know."""
    plan: Plan
    cost_usd: float
    deadline_at: float | None = None
    canceled_at: float | None = None
    expired: bool = False
    reads: int = 0
    seq: int = 0
    """Position in the order of acceptance; 0 before it is stored."""

    @property
    def identity(self) -> str:
        """What chance is drawn for: the same in every run, unlike the id."""
        return f"{self.input_sha}#{self.ordinal}"

    @cached_property
    def typed_input(self) -> ModelInput:
        """The input with the model's defaults."""
        return ModelInput.model_validate(self.input)

    @property
    def life(self) -> Life:
        """The plan together with what interfered with it since."""
        return Life(
            plan=self.plan,
            images=self.typed_input.num_outputs,
            interruption=Interruption(self.canceled_at, self.deadline_at),
            reads=self.reads,
            expired=self.expired,
        )


def new_id() -> str:
    """26 characters, never drawn again: an id of an earlier state must not come back."""
    return "".join(_ALPHABET[byte % 32] for byte in secrets.token_bytes(26))


def count_same(connection: sqlite3.Connection, input_sha: str) -> int:
    """How many predictions of this (version, input) were accepted."""
    row = connection.execute(
        "SELECT count(*) AS n FROM predictions WHERE input_sha = ?", (input_sha,)
    ).fetchone()
    return int(row["n"])


def charged(connection: sqlite3.Connection) -> float:
    """What all accepted predictions cost together, USD."""
    row = connection.execute("SELECT coalesce(sum(cost_usd), 0) AS usd FROM predictions").fetchone()
    return float(row["usd"])


def insert(connection: sqlite3.Connection, record: Record) -> None:
    """Store an accepted prediction."""
    connection.execute(
        "INSERT INTO predictions (id, input_sha, ordinal, created_at, model, version, input, plan,"
        " cost_usd, deadline_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            record.id,
            record.input_sha,
            record.ordinal,
            record.created_at,
            record.model,
            record.version,
            json.dumps(record.input),
            json.dumps(vars(record.plan)),
            record.cost_usd,
            record.deadline_at,
        ),
    )


def find(connection: sqlite3.Connection, prediction_id: str) -> Record | None:
    """The prediction with this id, or None."""
    row = connection.execute("SELECT * FROM predictions WHERE id = ?", (prediction_id,)).fetchone()
    return None if row is None else from_row(row)


def cancel(connection: sqlite3.Connection, prediction_id: str, now: float) -> None:
    """Note that it was cancelled; the first time counts."""
    connection.execute(
        "UPDATE predictions SET canceled_at = coalesce(canceled_at, ?) WHERE id = ?",
        (now, prediction_id),
    )


def expire(connection: sqlite3.Connection, prediction_id: str) -> None:
    """Let its input, output and files vanish for good."""
    connection.execute("UPDATE predictions SET expired = 1 WHERE id = ?", (prediction_id,))


def count_read(connection: sqlite3.Connection, prediction_id: str) -> None:
    """Note one more read after the end."""
    connection.execute("UPDATE predictions SET reads = reads + 1 WHERE id = ?", (prediction_id,))


def page(
    connection: sqlite3.Connection,
    *,
    after: float,
    before: float,
    older_than: int,
    limit: int,
) -> list[Record]:
    """Predictions created in (``after``, ``before``), seq below ``older_than``, newest first."""
    rows = connection.execute(
        "SELECT * FROM predictions WHERE created_at > ? AND created_at < ? AND seq < ?"
        " ORDER BY seq DESC LIMIT ?",
        (after, before, older_than, limit),
    )
    return [from_row(row) for row in rows]


def from_row(row: sqlite3.Row) -> Record:
    """The record that a row of the table holds."""
    values = dict(row)
    plan = json.loads(values.pop("plan"))
    plan["refused"] = tuple(plan["refused"])
    return Record(
        **{
            **values,
            "input": json.loads(values["input"]),
            "plan": Plan(**plan),
            "expired": bool(values["expired"]),
        }
    )
