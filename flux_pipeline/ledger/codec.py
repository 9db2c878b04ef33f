"""Writes a request and a provider's reply as JSON for the ledger, and reads them back.

They are all that another worker needs to finish a prediction, without the prompt sets. Output URLs
are kept only for a reply without an id (``data[]``), where nothing else leads to the images. With
an id they are left out: they can be asked for again, and may hold signatures.
"""

import json
from dataclasses import fields
from typing import Any

from flux_pipeline.errors import LedgerError
from flux_pipeline.prediction import Output, Prediction, Status
from flux_pipeline.request import InputPicture, Request, Source

_FORM = 1
_OBJECTS = frozenset({"input", "defaults", "price", "source", "pictures"})
_REQUEST = tuple(field.name for field in fields(Request) if field.name not in _OBJECTS)
_PICTURE = tuple(field.name for field in fields(InputPicture))
_SOURCE = tuple(field.name for field in fields(Source))
# Made once: json.dumps makes an encoder a call for anything but its defaults.
_REQUESTS = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_REPLIES = json.JSONEncoder(ensure_ascii=False)


def dump_request(request: Request) -> str:
    """Return a request as ASCII JSON; ``load_request`` gives an equal one back.

    The trap: nothing is redacted, because the request must still be sendable.

    Raises:
        ValueError: For numbers that JSON has no form for (NaN, infinity).
    """
    table: dict[str, Any] = {name: getattr(request, name) for name in _REQUEST}
    table["form"] = _FORM
    table["input"] = dict(request.input)
    table["defaults"] = dict(request.defaults)
    table["price"] = dict(request.price)
    table["pictures"] = [
        {name: getattr(picture, name) for name in _PICTURE} for picture in request.pictures
    ]
    table["source"] = {name: getattr(request.source, name) for name in _SOURCE}
    return _REQUESTS.encode(table)


def load_request(text: str) -> Request:
    """Return the request that ``dump_request`` wrote.

    Raises:
        LedgerError: Where the text is not of this form; never with the text itself.
    """
    try:
        table = json.loads(text)
        if table.pop("form") != _FORM:
            raise LedgerError("a request in the ledger was written by a newer release: update")
        pictures = tuple(InputPicture(**each) for each in table.pop("pictures", []))
        table["secret_inputs"] = tuple(table.get("secret_inputs", ()))
        source = Source(**table.pop("source"))
        return Request(**table, source=source, pictures=pictures)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LedgerError(
            f"a request in the ledger can't be read ({type(error).__name__}): the database was "
            "changed by something else; restore it from a backup"
        ) from None


def dump_reply(prediction: Prediction) -> str:
    """Return a prediction's reply as one line of JSON, redacted."""
    reply: dict[str, object] = {"status": prediction.status, "reply": prediction.raw}
    if prediction.id is None:
        reply["outputs"] = [[output.index, output.url] for output in prediction.outputs]
    return _REPLIES.encode(reply)


def load_prediction(prediction_id: str | None, reply: str) -> Prediction:
    """Return a prediction that can be resumed: polled by its id, or, without one, downloaded."""
    if prediction_id is not None:
        return Prediction(id=prediction_id, status=Status.UNKNOWN)
    outputs = json.loads(reply)["outputs"] if reply else []
    return Prediction(
        id=None,
        status=Status.SUCCEEDED,
        outputs=tuple(Output(index=index, url=url) for index, url in outputs),
    )
