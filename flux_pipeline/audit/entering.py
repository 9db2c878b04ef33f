"""Enters what is stored already into a ledger that doesn't know it."""

from collections.abc import Sequence
from dataclasses import replace

from flux_pipeline.audit.rebuilding import rebuild_request
from flux_pipeline.ledger.base import Claimed, Intent, Ledger, State
from flux_pipeline.ledger.codec import dump_reply, dump_request
from flux_pipeline.lineage.record import ImageRecord, records_to_json
from flux_pipeline.prediction import Prediction, Status
from flux_pipeline.produce.budgets import micros

_RESOLUTION = "rebuilt from the stored objects"


def enter_stored(ledger: Ledger, records: Sequence[ImageRecord], *, holder: str) -> bool:
    """Write one request's attempt as stored and recorded; False where the ledger has any of it.

    ``records``: one for each image asked for, the first of them stored. No budget is charged: it
    was paid for at another time. To be called within one transaction, so that it is there whole or
    not at all.
    """
    first = records[0]
    request = rebuild_request(first)
    if ledger.find([request.request_sha256]):
        return False
    intent = Intent(
        request_sha256=request.request_sha256,
        prompt_set=first.prompt_set,
        run_id=first.run_id,
        cost_micros=micros(request.cost_usd) or 0,
        request_json=dump_request(request),
    )
    claim = ledger.claim(intent, holder=holder, budgets=())
    if not isinstance(claim, Claimed):
        return False
    prediction = Prediction(id=first.prediction_id, status=Status.SUCCEEDED)
    reply = dump_reply(prediction)
    ledger.accept(claim.attempt, prediction_id=prediction.id, reply=reply)
    accepted = replace(claim.attempt, state=State.ACCEPTED, prediction_id=prediction.id)
    ledger.close(
        accepted,
        State.STORED,
        holder=holder,
        images=records_to_json(records),
        resolution=_RESOLUTION,
    )
    ledger.mark_recorded([request.request_sha256])
    return True
