"""Labels as XMP packets and back: IPTC and TC260 properties, and the rest under our own namespace.

Our own properties are plain text, so that any XMP tool shows them; see ``xmltext`` for the
characters that XML can't hold.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from enum import IntEnum
from typing import Any, Final

from flux_pipeline.images import aigc
from flux_pipeline.images.label import Label
from flux_pipeline.images.rdf import parse_properties
from flux_pipeline.images.xmltext import escape, from_xml, json_text, to_xml

NAMESPACE: Final = "urn:flux-pipeline:label:1.0/"
IPTC: Final = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
XMP: Final = "http://ns.adobe.com/xap/1.0/"
SOURCE_TYPE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
AIGC_NAME: Final = aigc.NAMESPACE + "AIGC"

_OPEN = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about=""'
    f' xmlns:xmp="{XMP}" xmlns:Iptc4xmpExt="{IPTC}"'
    f' xmlns:TC260="{aigc.NAMESPACE}" xmlns:flux="{NAMESPACE}">'
)
_CLOSE = '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'

_PREFIXES = {"Iptc4xmpExt": IPTC, "xmp": XMP, "flux": NAMESPACE}
_TEXTS = {
    "model": "Iptc4xmpExt:AISystemUsed",
    "version": "Iptc4xmpExt:AISystemVersionUsed",
    "prompt": "Iptc4xmpExt:AIPromptInformation",
    "prediction_id": "flux:PredictionID",
    "request_sha256": "flux:RequestSHA256",
    "image_sha256": "flux:ImageSHA256",
    "run_id": "flux:RunID",
    "prompt_set": "flux:PromptSet",
    "prompt_name": "flux:PromptName",
    "partition": "flux:Partition",
    "config_sha256": "flux:ConfigSHA256",
    "producer": "flux:Producer",
    "input": "flux:Input",
}
_DEFAULTS = {name: getattr(Label(), name) for name in _TEXTS}
_NUMBERS = {"output_index": "flux:OutputIndex", "seed": "flux:Seed"}
_CREATED, _EXTRA = "xmp:CreateDate", "flux:Extra"


class Detail(IntEnum):
    """How much of a label goes into a packet, for files that can't hold all of it."""

    IDS = 0
    """Identities and names; neither input nor extra nor prompt."""
    INPUT = 1
    """All but the prompt's own property: the prompt stands in the input."""
    ALL = 2


def build_packet(
    label: Label, *, upstream: str | None = None, detail: Detail = Detail.ALL
) -> bytes:
    """The XMP packet of a label: the same bytes for the same label, on any machine.

    ``upstream`` is the TC260:AIGC label that the file has already. Raises ValueError for a time
    without a zone, a number that JSON doesn't have, and, without a prompt, an ``input`` that is
    not a JSON object.
    """
    written = {"Iptc4xmpExt:DigitalSourceType": SOURCE_TYPE}
    texts = _texts(label, detail)
    written |= {_TEXTS[name]: to_xml(text) for name, text in texts.items()}
    for name, tag in _NUMBERS.items():
        number = getattr(label, name)
        if number is not None:
            written[tag] = str(number)
    if label.created_at is not None:
        if label.created_at.tzinfo is None:
            raise ValueError("created_at has no time zone")
        written[_CREATED] = label.created_at.isoformat()
    extra = {k: v for k, v in label.extra.items() if label.prompt is not None or k != "prompt"}
    if extra and detail > Detail.IDS:
        written[_EXTRA] = escape(json_text(extra))
    synthetic = aigc.aigc_label(
        producer=label.producer, produce_id=label.produce_id, upstream=upstream
    )
    if synthetic is not None:
        written["TC260:AIGC"] = escape(synthetic)
    elements = (f"<{tag}>{content}</{tag}>" for tag, content in written.items())
    return "".join((_OPEN, *elements, _CLOSE)).encode()


def _texts(label: Label, detail: Detail) -> dict[str, str]:
    """The text fields that are to be written; those that say nothing are left out."""
    texts = {name: getattr(label, name) for name in _TEXTS}
    if label.prompt is None and label.input:
        texts["input"] = _without_prompt(label.input)
    if detail < Detail.ALL:
        texts["prompt"] = None
    if detail < Detail.INPUT:
        texts["input"] = None
    return {
        name: text for name, text in texts.items() if text is not None and text != _DEFAULTS[name]
    }


def _without_prompt(text: str) -> str:
    members = json.loads(text)
    if not isinstance(members, dict):
        raise ValueError("input is not a JSON object")  # noqa: TRY004 - the text's value is wrong
    if "prompt" not in members:
        return text
    del members["prompt"]
    return json_text(members)


def parse_packet(packet: bytes) -> Label | None:
    """The label in a packet, or None where it holds none of our properties.

    Never raises: a field that can't be read keeps its default. Whoever can write the file can
    write its label, so ids from it are a hint to be looked up and not a proof.
    """
    properties = parse_properties(packet)
    if not any(name.startswith(NAMESPACE) for name in properties):
        return None
    fields: dict[str, Any] = {}
    for name, tag in _TEXTS.items():
        if (text := properties.get(_full(tag))) is not None:
            fields[name] = from_xml(text)
    for name, tag in _NUMBERS.items():
        fields[name] = _number(properties.get(_full(tag)))
    fields["created_at"] = _time(properties.get(_full(_CREATED)))
    fields["extra"] = _members(properties.get(_full(_EXTRA)))
    if "prompt" not in fields:
        prompt = _members(fields.get("input")).get("prompt")
        fields["prompt"] = prompt if isinstance(prompt, str) else None
    return Label(**fields)


def upstream_label(packet: bytes) -> str | None:
    """The TC260:AIGC label in a packet, as it stands there; None where there is none."""
    found = parse_properties(packet).get(AIGC_NAME)
    return found if found and len(found) <= aigc.MAX_UPSTREAM else None


def _full(tag: str) -> str:
    prefix, _, name = tag.partition(":")
    return _PREFIXES[prefix] + name


def _number(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def _time(text: str | None) -> datetime | None:
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else None


def _members(text: str | None) -> Mapping[str, Any]:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
