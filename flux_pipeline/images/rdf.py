"""The simple properties of an XMP packet, read from bytes that anybody may have written."""

from typing import Final
from xml.etree import ElementTree as ET

MAX_PACKET: Final = 1 << 20
"""bytes; a longer packet is not read"""
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"


def parse_properties(packet: bytes) -> dict[str, str]:
    """Namespace plus name to text, of elements and attributes alike; the first one counts.

    Never raises: what is not well-formed UTF-8 XML has no properties. A document type is refused
    before parsing, so there are no entities to expand and none to fetch.
    """
    if len(packet) > MAX_PACKET or b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:
        return {}
    try:
        # The encoding is given, so that UTF-16 can't carry a document type past the check above.
        parser = ET.XMLParser(encoding="utf-8")  # noqa: S314 - no document type, no entities
        parser.feed(packet.strip(b"\0 \t\r\n"))
        root = parser.close()
    except (ET.ParseError, ValueError, LookupError):
        return {}
    rdf = root if root.tag == f"{_RDF}RDF" else root.find(f"{_RDF}RDF")
    properties: dict[str, str] = {}
    for description in () if rdf is None else rdf.findall(f"{_RDF}Description"):
        for name, value in description.attrib.items():
            properties.setdefault(_plain(name), value)
        for element in description:
            if len(element) == 0:
                properties.setdefault(_plain(element.tag), element.text or "")
    return properties


def _plain(qualified: str) -> str:
    return qualified.removeprefix("{").replace("}", "", 1)
