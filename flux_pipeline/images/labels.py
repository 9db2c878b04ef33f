"""Writes a label into an image file and reads it back: provenance as XMP, and the TC260:AIGC label.

A label holds enough to rebuild an image's lineage row from the file alone. It is an XMP packet with
IPTC properties, our own properties as plain text that any XMP tool shows, and, where a producer is
configured, the implicit label of GB 45438-2025 (TC260:AIGC).

In this order: the ``Label``, files (``label_image``, ``read_label``), the XMP packet, the packet of
a picture that is made of another one, text in XML, the TC260 label. ``jpeg``, ``png`` and ``webp``
put a packet into a file of their format. A file's label is a hint to be looked up, not a proof:
anybody who can write the file can write its label.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from html import escape
from typing import Any, Final
from xml.etree import ElementTree as ET
from xml.sax.saxutils import quoteattr

from flux_pipeline.errors import ImageError
from flux_pipeline.images import jpeg
from flux_pipeline.images.container import Structure
from flux_pipeline.images.formats import CONTAINERS, read_structure, read_xmp
from flux_pipeline.request import JsonValue

LABEL_NAMESPACE: Final = "urn:flux-pipeline:label:1.0/"
_PROVENANCE = "http://purl.org/dc/terms/provenance"
IPTC_NAMESPACE: Final = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
XMP_NAMESPACE: Final = "http://ns.adobe.com/xap/1.0/"
AIGC_NAMESPACE: Final = "http://www.tc260.org.cn/ns/AIGC/1.0/"
SOURCE_TYPE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC DigitalSourceType of an image that a model made."""
PLACEHOLDER_TYPE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicMedia"
"""That of an image that code drew, without any trained model: the emulator's placeholders."""
PLACEHOLDER: Final = "emulator"
"""The provider of placeholders."""
MAX_PACKET: Final = 1 << 20
"""bytes; a longer packet is not read"""
MAX_UPSTREAM: Final = 8192
"""Characters of a foreign TC260:AIGC label; a longer text is no label and is not kept."""

_PACKET_START = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about=""'
    f' xmlns:xmp="{XMP_NAMESPACE}" xmlns:Iptc4xmpExt="{IPTC_NAMESPACE}"'
    f' xmlns:TC260="{AIGC_NAMESPACE}" xmlns:flux="{LABEL_NAMESPACE}">'
)
_PACKET_END = '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
_PREFIXES = {
    "Iptc4xmpExt": IPTC_NAMESPACE,
    "xmp": XMP_NAMESPACE,
    "flux": LABEL_NAMESPACE,
    "TC260": AIGC_NAMESPACE,
}
_TEXT_PROPERTIES = {
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
    "provider": "flux:Provider",
    "input": "flux:Input",
}
"""XMP property of each text field of a Label."""
_PLACEHOLDER_PROPERTIES = {
    "model": "flux:Model",
    "version": "flux:Version",
    "prompt": "flux:Prompt",
}
"""Those of a placeholder that differ: IPTC's own are for a model that ran."""
_NUMBER_PROPERTIES = {"output_index": "flux:OutputIndex", "seed": "flux:Seed"}
_CREATED, _EXTRA, _AIGC = "xmp:CreateDate", "flux:Extra", "TC260:AIGC"
_SOURCE_TYPE = "Iptc4xmpExt:DigitalSourceType"
_PROMPTS = frozenset({_TEXT_PROPERTIES["prompt"], _PLACEHOLDER_PROPERTIES["prompt"]})
_LAWFUL = frozenset({_SOURCE_TYPE, _AIGC})
"""What a generated picture has to say wherever it is shown."""
_DERIVED = (
    _SOURCE_TYPE,
    *(tag for name, tag in _TEXT_PROPERTIES.items() if name != "input"),
    *_PLACEHOLDER_PROPERTIES.values(),
    *_NUMBER_PROPERTIES.values(),
    _CREATED,
    _AIGC,
)
"""The properties that a picture hands on to those that are made of it."""
DC_NAMESPACE: Final = "http://purl.org/dc/elements/1.1/"
_RIGHTS = {"creator": ("rdf:Seq", ""), "rights": ("rdf:Alt", "x-default")}
"""What others may have written of whose a picture is: the kind of list that XMP (ISO 16684-1) has
for it, and the language of an item that names none."""
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_NO_XML = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""Characters that XML 1.0 can't hold, or that parsers change, such as line ends."""
_SORTED_JSON, _PLAIN_JSON = (
    json.JSONEncoder(
        ensure_ascii=False, allow_nan=False, sort_keys=sort_keys, separators=(",", ":")
    )
    for sort_keys in (True, False)
)
_AIGC_MEMBERS = (
    "Label",
    "ContentProducer",
    "ProduceID",
    "ReservedCode1",
    "ContentPropagator",
    "PropagateID",
    "ReservedCode2",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """The label of one image; every field may be left out, and reads back as it was written.

    A label is published with its file: secrets must be redacted before. With ``prompt=None`` the
    file holds no prompt: the member ``prompt`` of ``input`` and of ``extra`` is left out too.
    """

    prompt: str | None = None
    """As IPTC AIPromptInformation; None where the configuration keeps prompts out of files."""
    prediction_id: str | None = None
    request_sha256: str = ""
    output_index: int | None = None
    """0-based place in the prediction's batch."""
    image_sha256: str = ""
    """Of the coded pixels alone; see ``formats.image_sha256``."""
    seed: int | None = None
    run_id: str = ""
    prompt_set: str = ""
    prompt_name: str = ""
    partition: str = ""
    model: str = ""
    """``owner/name``; also as IPTC AISystemUsed."""
    version: str = ""
    """64 hex digits; also as IPTC AISystemVersionUsed."""
    provider: str = ""
    """The provider's host, or PLACEHOLDER; empty where it is not known."""
    config_sha256: str = ""
    input: str = ""
    """The whole input that was sent, redacted, as canonical JSON."""
    created_at: datetime | None = None
    """With a time zone; also as xmp:CreateDate."""
    producer: str = ""
    """Code of the organisation for the TC260:AIGC label; empty for none."""
    extra: Mapping[str, JsonValue] = field(default_factory=dict, hash=False)
    """Everything else of the lineage row."""

    @property
    def is_placeholder(self) -> bool:
        """Whether code drew the image and no model ran, whatever ``model`` was asked for."""
        return self.provider == PLACEHOLDER

    @property
    def source_type(self) -> str:
        """The IPTC DigitalSourceType."""
        return PLACEHOLDER_TYPE if self.is_placeholder else SOURCE_TYPE

    @property
    def produce_id(self) -> str:
        """The producer's own number of this image: prediction and place in its batch."""
        if self.prediction_id is None or self.output_index is None:
            return self.image_sha256
        return f"{self.prediction_id}-{self.output_index}"


_EMPTY = Label()


class Detail(IntEnum):
    """How much of a label goes into a packet, for files that can't hold the whole."""

    IDS = 0
    """Identities and names; neither input nor extra nor prompt."""
    INPUT = 1
    """All but the prompt's own property: the prompt stands in the input."""
    ALL = 2


def label_image(body: bytes, label: Label, structure: Structure | None = None) -> bytes:
    """The same image with this label in it, in place of any XMP that it had.

    The coded pixels stay as they are. A TC260:AIGC label that the file had is kept. ``structure``
    is the file's, where it is known. Raises ImageError for a broken file, ValueError as
    ``build_packet``.
    """
    structure = structure or read_structure(body)
    container = CONTAINERS[structure.image_format]
    existing = container.read_xmp(body, structure)
    upstream = None if existing is None else upstream_label(existing)
    # A jpg holds 64 KB of XMP: a longer label is written with less detail, so that a paid image
    # never fails for a long prompt.
    for detail in sorted(Detail, reverse=True):
        packet = build_packet(label, upstream=upstream, detail=detail)
        if structure.image_format != "jpg" or len(packet) <= jpeg.MAX_PACKET:
            return container.replace_xmp(body, structure, packet)
    raise ImageError(f"the label's ids alone are longer than {jpeg.MAX_PACKET} bytes")


def read_label(body: bytes) -> Label | None:
    """The label in an image file, or None; see ``parse_packet`` for what it can be trusted for.

    Raises ImageError where the file itself is broken.
    """
    packet = read_xmp(body)
    return None if packet is None else parse_packet(packet)


def build_packet(
    label: Label, *, upstream: str | None = None, detail: Detail = Detail.ALL
) -> bytes:
    """The XMP packet of a label: the same bytes for the same label, on any machine.

    ``upstream`` is the TC260:AIGC label that the file has already. Raises ValueError for a time
    without a zone, a number that JSON doesn't have, and, without a prompt, an ``input`` that is
    not a JSON object.
    """
    written = {_SOURCE_TYPE: label.source_type}
    texts = _texts(label, detail)
    tags = _TEXT_PROPERTIES | (_PLACEHOLDER_PROPERTIES if label.is_placeholder else {})
    written |= {tags[name]: to_xml(text) for name, text in texts.items()}
    for name, tag in _NUMBER_PROPERTIES.items():
        number = getattr(label, name)
        if number is not None:
            written[tag] = str(number)
    if label.created_at is not None:
        if label.created_at.tzinfo is None:
            raise ValueError("created_at has no time zone")
        written[_CREATED] = label.created_at.isoformat()
    extra = {k: v for k, v in label.extra.items() if label.prompt is not None or k != "prompt"}
    if extra and detail > Detail.IDS:
        written[_EXTRA] = escape(json_text(extra), quote=False)
    producer = "" if label.is_placeholder else label.producer  # no AI has made it
    synthetic = aigc_label(producer=producer, produce_id=label.produce_id, upstream=upstream)
    if synthetic is not None:
        written[_AIGC] = escape(synthetic, quote=False)
    elements = (f"<{tag}>{content}</{tag}>" for tag, content in written.items())
    return "".join((_PACKET_START, *elements, _PACKET_END)).encode()


def _texts(label: Label, detail: Detail) -> dict[str, str]:
    """The text fields to write at this detail; those of an empty label are left out."""
    texts = {name: getattr(label, name) for name in _TEXT_PROPERTIES}
    if label.prompt is None and label.input:
        texts["input"] = _without_prompt(label.input)
    if detail < Detail.ALL:
        texts["prompt"] = None
    if detail < Detail.INPUT:
        texts["input"] = None
    return {
        name: text
        for name, text in texts.items()
        if text is not None and text != getattr(_EMPTY, name)
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

    Never raises: a field that can't be read keeps its default. The ids are a hint to be looked up
    and not a proof: who can write the file can write its label.
    """
    properties = parse_properties(packet)
    if not any(name.startswith(LABEL_NAMESPACE) for name in properties):
        return None
    fields: dict[str, Any] = {}
    for name, tag in (*_PLACEHOLDER_PROPERTIES.items(), *_TEXT_PROPERTIES.items()):
        if (text := properties.get(_expanded(tag))) is not None:
            fields[name] = from_xml(text)
    for name, tag in _NUMBER_PROPERTIES.items():
        fields[name] = _parse_number(properties.get(_expanded(tag)))
    fields["created_at"] = _parse_time(properties.get(_expanded(_CREATED)))
    fields["extra"] = _parse_object(properties.get(_expanded(_EXTRA)))
    if "prompt" not in fields:
        prompt = _parse_object(fields.get("input")).get("prompt")
        fields["prompt"] = prompt if isinstance(prompt, str) else None
    return Label(**fields)


def derived_packet(packet: bytes, *, own: bytes = b"") -> bytes | None:
    """The packet for a picture that is made of the one with this packet; None where it says little.

    It holds, as they stand there: IPTC's source type, system and prompt, the TC260:AIGC label, the
    time, and our ids, which name the original; and the creators and rights (``dc:creator``,
    ``dc:rights``) that another tool has written. Left out are the whole input and the lineage row,
    which the ids lead to, and all else that a file may say, such as its orientation or the address
    of its manifest. At most as long as a jpg can hold: a prompt that is too long is left out, and
    then creators and rights that are. ``own`` is the file's own packet, where ``packet`` lay beside
    it.
    """
    found = parse_properties(packet)
    kept = {tag: text for tag in _DERIVED if (text := found.get(_expanded(tag)))}
    rights = "".join(_rights_elements(own or packet))
    for left_out, shown in (
        (frozenset(), rights),
        (_PROMPTS, rights),
        (_PROMPTS, ""),
        (frozenset(kept) - _LAWFUL, ""),
    ):
        elements = shown + "".join(
            f"<{tag}>{escape(text, quote=False)}</{tag}>"
            for tag, text in kept.items()
            if tag not in left_out
        )
        derived = f"{_PACKET_START}{elements}{_PACKET_END}".encode()
        if len(derived) <= jpeg.MAX_PACKET:
            return derived if elements else None
    return None


def _rights_elements(packet: bytes) -> Iterator[str]:
    """``dc:creator`` and ``dc:rights`` of a packet, as XMP has them: lists, of languages too."""
    properties = [each for description in _descriptions(packet) for each in description]
    for name, (kind, default) in _RIGHTS.items():
        found = next((each for each in properties if each.tag == f"{{{DC_NAMESPACE}}}{name}"), None)
        items = [] if found is None else [*found.iter(f"{_RDF}li")]
        texts = [(each.get(_LANGUAGE, default), (each.text or "").strip()) for each in items]
        lines = "".join(
            f"<rdf:li{f' xml:lang={quoteattr(language)}' if language else ''}>"
            f"{escape(text, quote=False)}</rdf:li>"
            for language, text in texts
            if text
        )
        if lines:
            yield f'<dc:{name} xmlns:dc="{DC_NAMESPACE}"><{kind}>{lines}</{kind}></dc:{name}>'


def names_manifest(packet: bytes) -> bool:
    """Whether a packet names the address of a C2PA manifest that is about its file."""
    return b"provenance" in packet and _PROVENANCE in parse_properties(packet)


def parse_properties(packet: bytes) -> dict[str, str]:
    """The simple properties of an XMP packet: namespace plus name to text, of the first of a name.

    The bytes may be anybody's: never raises, and bytes that are no well-formed UTF-8 XML have no
    properties. A document type is refused before parsing, so no entity is expanded or fetched.
    """
    properties: dict[str, str] = {}
    for description in _descriptions(packet):
        for name, value in description.attrib.items():
            properties.setdefault(_unbraced(name), value)
        for element in description:
            if len(element) == 0:
                properties.setdefault(_unbraced(element.tag), element.text or "")
    return properties


def _descriptions(packet: bytes) -> Sequence[ET.Element]:
    """The elements of a packet that hold its properties; none of bytes that are no such XML."""
    if len(packet) > MAX_PACKET or b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:
        return []
    try:
        # The encoding is given, so that UTF-16 can't carry a document type past the check above.
        parser = ET.XMLParser(encoding="utf-8")  # noqa: S314 - no document type, no entities
        parser.feed(packet.strip(b"\0 \t\r\n"))
        root = parser.close()
    except (ET.ParseError, ValueError, LookupError):
        return []
    rdf = root if root.tag == f"{_RDF}RDF" else root.find(f"{_RDF}RDF")
    return [] if rdf is None else rdf.findall(f"{_RDF}Description")


def _expanded(tag: str) -> str:
    prefix, _, name = tag.partition(":")
    return _PREFIXES[prefix] + name


def _unbraced(qualified: str) -> str:
    return qualified.removeprefix("{").replace("}", "", 1)


def _parse_number(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def _parse_time(text: str | None) -> datetime | None:
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else None


def _parse_object(text: str | None) -> Mapping[str, Any]:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def to_xml(text: str) -> str:
    """``text`` as the content of an element, from which every XML 1.0 parser gives it back.

    XML can't hold most control characters, even escaped, and parsers change line ends. Such a text
    is written as a JSON string in quotes, which holds everything; any other as it is.
    """
    plain = not _NO_XML.search(text) and not text.startswith('"') and text == text.strip()
    return escape(text if plain else json_text(text), quote=False)


def from_xml(content: str) -> str:
    """The text that ``to_xml`` was given, from the content as a parser returns it."""
    if not content.startswith('"'):
        return content
    try:
        text = json.loads(content)
    except (ValueError, RecursionError):
        return content
    return text if isinstance(text, str) else content


def json_text(value: JsonValue, *, sort_keys: bool = True) -> str:
    """Compact JSON, in which characters that XML can't hold are escaped.

    Raises ValueError for a number that JSON doesn't have.
    """
    text = (_SORTED_JSON if sort_keys else _PLAIN_JSON).encode(value)
    return _NO_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def aigc_label(*, producer: str, produce_id: str, upstream: str | None) -> str | None:
    """The TC260:AIGC label (GB 45438-2025) as JSON; None without a producer and an upstream label.

    ``upstream`` is the label that the file has already, from the tool that made the image. It is
    kept as it is; only where it is another producer's and names no propagator, ``producer`` and
    ``produce_id`` are filled in as the propagator.
    """
    if upstream is None:
        return _new_aigc_label(producer, produce_id) if producer else None
    kept = _parse_aigc_label(upstream)
    if kept is None or producer in {"", kept.get("ContentProducer")}:
        return upstream
    if kept.get("ContentPropagator") or kept.get("PropagateID"):
        return upstream
    filled = kept | {"ContentPropagator": producer, "PropagateID": produce_id}
    return json_text(filled, sort_keys=False)


def _new_aigc_label(producer: str, produce_id: str) -> str:
    values: dict[str, JsonValue] = dict.fromkeys(_AIGC_MEMBERS, "")
    values |= {"Label": "1", "ContentProducer": producer, "ProduceID": produce_id}
    return json_text(values, sort_keys=False)


def _parse_aigc_label(upstream: str) -> dict[str, JsonValue] | None:
    """The members of a label, or None for anything that is not one object of strings."""
    try:
        found = json.loads(upstream)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict) and all(isinstance(value, str) for value in found.values()):
        return found
    return None


def upstream_label(packet: bytes) -> str | None:
    """The TC260:AIGC label in a packet, as it stands there; None where there is none."""
    found = parse_properties(packet).get(AIGC_NAMESPACE + "AIGC")
    return found if found and len(found) <= MAX_UPSTREAM else None
