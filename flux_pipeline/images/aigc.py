"""The implicit label of GB 45438-2025: who made a synthetic image, as one JSON object in XMP."""

import json
from typing import Final

from flux_pipeline.images.xmltext import json_text
from flux_pipeline.request import JsonValue

NAMESPACE: Final = "http://www.tc260.org.cn/ns/AIGC/1.0/"
MAX_UPSTREAM: Final = 8192
"""Characters; what is longer is no label and is not carried on."""
_KEYS = (
    "Label",
    "ContentProducer",
    "ProduceID",
    "ReservedCode1",
    "ContentPropagator",
    "PropagateID",
    "ReservedCode2",
)


def aigc_label(*, producer: str, produce_id: str, upstream: str | None) -> str | None:
    """The label's JSON, or None where there is no producer and no label upstream.

    ``upstream`` is the label that the file has already. It stays as it is, and only where it is
    another producer's and its propagator half is empty, that half is filled in with ``producer``
    and ``produce_id``.
    """
    if upstream is None:
        return _own(producer, produce_id) if producer else None
    kept = _parse(upstream)
    if kept is None or producer in {"", kept.get("ContentProducer")}:
        return upstream
    if kept.get("ContentPropagator") or kept.get("PropagateID"):
        return upstream
    filled = kept | {"ContentPropagator": producer, "PropagateID": produce_id}
    return json_text(filled, sort_keys=False)


def _own(producer: str, produce_id: str) -> str:
    values: dict[str, JsonValue] = dict.fromkeys(_KEYS, "")
    values |= {"Label": "1", "ContentProducer": producer, "ProduceID": produce_id}
    return json_text(values, sort_keys=False)


def _parse(upstream: str) -> dict[str, JsonValue] | None:
    """The members of a label, or None for anything that is not one object of strings."""
    try:
        found = json.loads(upstream)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict) and all(isinstance(value, str) for value in found.values()):
        return found
    return None
