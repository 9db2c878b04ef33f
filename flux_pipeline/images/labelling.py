"""Labels in and out of image files: the two calls that the rest of the package makes."""

from flux_pipeline.errors import ImageError
from flux_pipeline.images import jpeg
from flux_pipeline.images.containers import CONTAINERS, read_structure
from flux_pipeline.images.label import Label
from flux_pipeline.images.packet import Detail, build_packet, parse_packet, upstream_label
from flux_pipeline.images.xmp import read_xmp


def label_image(body: bytes, label: Label) -> bytes:
    """The same image with this label in it, in place of any XMP that it had.

    A TC260:AIGC label that the file had is kept. A jpg holds 64 KB of XMP: where the label is
    longer, first the prompt's own property, then input and extra are left out, so that a paid image
    never fails for a long prompt. Raises ImageError for a broken file, ValueError as
    ``build_packet``.
    """
    structure = read_structure(body)
    container = CONTAINERS[structure.image_format]
    existing = container.read_xmp(body, structure)
    upstream = None if existing is None else upstream_label(existing)
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
