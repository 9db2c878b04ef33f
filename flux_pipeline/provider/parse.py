"""Parses a JSON object of the API into a Prediction, whichever of the known shapes it has.

Two shapes are predictions: the object with ``id`` and ``status``, and ``data[]`` of the seed
document, which is finished and has no id. Both are read leniently, because an unreadable reply to
a create may have been paid for; only the id is read strictly, because paths and keys are built
from it. A new shape is a branch in ``parse_prediction``, and a new form of output an ``outputs_of``
function.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from flux_pipeline.prediction import Output, Prediction, Status
from flux_pipeline.redaction import is_clean_json, redact_untrusted_json

_MAX_ID = 255
"""Characters: as many as the metadata of a stored object takes."""
_PART = r"[!$&()*+,\-.0-9:;=@A-Z\[\]^_a-z{|}~]+"
_ID = re.compile(f"{_PART}(?:/{_PART})*")
"""Printable ASCII but quotes, ``<>`%``, backslashes, and what begins a query or a fragment."""
_MAX_LOGS = 64 * 1024  # characters, kept from the end
_MAX_ERROR = 4096
_MAX_RAW = 256 * 1024
_MAX_OUTPUTS = 64  # no model makes more; a longer list is cut
_COMPACT = json.JSONEncoder(separators=(",", ":"))
_NUMBERED = re.compile(r"https?://[^/?#]+/(?:[^?#]*/)?out-(\d{1,3})\.[A-Za-z0-9]+(?:[?#]|\Z)")


def parse_prediction(fields: Mapping[str, Any], *secrets: str) -> Prediction | None:
    """Return the prediction that a reply's object holds, or None where it holds none.

    All but the outputs is redacted, and ``secrets`` are cut out. A running prediction has outputs
    only once all of them are there: a list that still grows would be taken for a short one.
    """
    prediction_id = read_id(fields.get("id"))
    outputs = outputs_of_data(fields.get("data"))
    if prediction_id is not None and ("status" in fields or not outputs):
        return _parse_with_id(prediction_id, fields, *_redact(fields, secrets))
    if not outputs or _status(fields.get("status", "succeeded")) is not Status.SUCCEEDED:
        return None
    clean, text = _redact(fields, secrets)
    return Prediction(
        id=prediction_id,
        status=Status.SUCCEEDED,
        outputs=outputs,
        model=_text(clean.get("model")),
        created_at=parse_moment(clean.get("created")),
        raw=_raw(clean, text),
    )


def _redact(fields: Mapping[str, Any], secrets: Sequence[str]) -> tuple[Mapping[str, Any], str]:
    """The same object without secrets, and its JSON."""
    text = _COMPACT.encode(fields)
    if is_clean_json(text, *secrets):
        return fields, text
    clean = redact_untrusted_json(fields, *secrets)
    return clean, _COMPACT.encode(clean)


def _parse_with_id(
    prediction_id: str, fields: Mapping[str, Any], clean: Mapping[str, Any], text: str
) -> Prediction:
    """Parse the shape with an id; ``clean`` is the same without secrets, and ``text`` its JSON."""
    status = _status(fields.get("status"))
    metrics = _metrics(clean.get("metrics"))
    shown = clean.get("input")
    sent: Mapping[str, Any] = shown if isinstance(shown, Mapping) else {}
    return Prediction(
        id=prediction_id,
        status=status,
        outputs=_outputs(fields, status, sent),
        model=_text(clean.get("model")),
        version=_text(clean.get("version")),
        input=sent,
        error=_error(clean.get("error")),
        logs=_text(clean.get("logs"))[-_MAX_LOGS:],
        created_at=parse_moment(clean.get("created_at")),
        started_at=parse_moment(clean.get("started_at")),
        completed_at=parse_moment(clean.get("completed_at")),
        predict_seconds=metrics.get("predict_time"),
        metrics=metrics,
        data_removed=clean.get("data_removed") is True,
        raw=_raw(clean, text),
    )


def is_id(value: object) -> bool:
    """Whether the text can be an id: up to 255 characters, with single slashes inside, no ``..``.

    Some providers build ids from a model's name, as in ``7f3a:owner/name``. In paths all of it is
    percent-encoded, slashes too; and whoever decodes too much still stays below our own base.
    """
    return (
        isinstance(value, str)
        and len(value) <= _MAX_ID
        and _ID.fullmatch(value) is not None
        and ".." not in value
        and "." not in value.split("/")
    )


def read_id(value: object) -> str | None:
    """The id in a reply: a text, or a whole number, which some providers use; None for others."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and is_id(value) else None


def _outputs(
    fields: Mapping[str, Any], status: Status, sent: Mapping[str, Any]
) -> tuple[Output, ...]:
    output = fields.get("output")
    outputs = outputs_of(output) or outputs_of_data(fields.get("data"))
    # Other models than flux name their count otherwise, or not at all: a list that may still grow
    # counts at the prediction's end alone.
    asked = sent.get("num_outputs", 1 if sent and isinstance(output, str) else None)
    return outputs if status.is_final or is_complete(outputs, asked) else ()


def is_complete(outputs: Sequence[Output], asked: object) -> bool:
    """Whether a prediction that still runs has all its images: as many as its input asks for."""
    return isinstance(asked, int) and not isinstance(asked, bool) and 0 < asked <= len(outputs)


def outputs_of(value: Any) -> tuple[Output, ...]:
    """The images of ``output``: null, an address, an object of addresses, or a list of either.

    An address is a URL or a data URI. In the order of their numbers. Anything else is no image and
    is left out; in a list the others keep their places.
    """
    return _numbered([value] if isinstance(value, (str, Mapping)) else value)


def outputs_of_data(value: Any) -> tuple[Output, ...]:
    """The images of ``data``: a list of ``{url}`` or ``{b64_json}``."""
    return _numbered(value)


def _numbered(values: Any) -> tuple[Output, ...]:
    if not isinstance(values, list):
        return ()
    # A provider leaves the images that it refused out of the list, and the others keep their batch
    # number in their names (out-0, out-1, out-3): a position counts only where no name has one.
    places = islice(_places(values), _MAX_OUTPUTS)
    placed = [(place, url) for place, url in enumerate(places) if url is not None]
    named = {number: url for _, url in placed if (number := _number_in(url)) is not None}
    numbered = sorted(named.items()) if len(named) == len(placed) else placed
    return tuple(Output(index=index, url=url) for index, url in numbered)


def _places(values: list[Any]) -> Iterator[str | None]:
    """Yield the addresses of each element in turn, and None for an element without one."""
    for each in values:
        yield from list(_addresses(each)) or (None,)


def _addresses(value: Any) -> Iterator[str | None]:
    """Yield the addresses of an element: its own, or those of an object's values.

    Of an object with ``b64_json`` or ``url`` that one alone, else also those in lists, with None
    for what is none there.
    """
    if not isinstance(value, Mapping):
        if _is_address(value):
            yield value
        return
    inline = value.get("b64_json")
    if isinstance(inline, str) and inline:
        yield inline if inline.startswith("data:") else f"data:;base64,{inline}"
    elif _is_address(value.get("url")):
        yield value["url"]
    else:
        for each in value.values():
            if isinstance(each, list):
                yield from (item if _is_address(item) else None for item in each)
            elif _is_address(each):
                yield each


def _is_address(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("https://", "http://", "data:"))


def _number_in(url: str) -> int | None:
    """The batch number in the name of a URL's file."""
    found = _NUMBERED.match(url)
    return int(found[1]) if found else None


def _status(value: object) -> Status:
    try:
        return Status(value.strip().lower()) if isinstance(value, str) else Status.UNKNOWN
    except ValueError:
        return Status.UNKNOWN


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _error(value: object) -> str | None:
    """The error's text; an object is shown as JSON."""
    if value is None:
        return None
    return (value if isinstance(value, str) else json.dumps(value))[:_MAX_ERROR]


def parse_moment(value: object) -> datetime | None:
    """The moment, in UTC, of an ISO 8601 text with any number of digits, or of unix seconds.

    None for anything else; a text without an offset is taken as UTC.
    """
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


def _metrics(value: object) -> dict[str, float]:
    """The finite numbers from 0 on, by their names."""
    if not isinstance(value, Mapping):
        return {}
    return {
        name: float(number)
        for name, number in value.items()
        if isinstance(number, (int, float))
        and not isinstance(number, bool)
        and 0 <= number < math.inf
    }


def _raw(clean: Mapping[str, Any], text: str) -> str:
    """The reply as JSON for the ledger; of one that is far too long only its id and status."""
    if len(text) > _MAX_RAW:
        known = {name: clean[name] for name in ("id", "status") if name in clean}
        text = _COMPACT.encode({**known, "cut": len(text)})
    return text if len(text) <= _MAX_RAW else "{}"
