"""Attempts of one request in any state, without a ledger."""

import json

from flux_pipeline.ledger.base import Attempt, Intent, State

SHA = "a" * 64
SUCCEEDED = json.dumps({"status": "succeeded", "reply": ""})
FAILED = json.dumps({"status": "failed", "reply": ""})


def attempt(state: State, number: int = 1, *, reply: str = "", paid: bool = True) -> Attempt:
    intent = Intent(SHA, "set", "run", 3000, "{}")
    prediction = f"p{number}" if paid else None
    return Attempt(SHA, number, state, "a", 0.0, 0.0, intent, prediction_id=prediction, reply=reply)


def unpaid(state: State, number: int = 1) -> Attempt:
    return attempt(state, number, paid=False)
