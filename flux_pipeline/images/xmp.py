"""XMP packets in and out of a file by moving chunks: no pixel is decoded or encoded again."""

from flux_pipeline.images.containers import CONTAINERS, read_structure


def insert_xmp(body: bytes, packet: bytes) -> bytes:
    """The same file with ``packet`` as its only XMP packet, in place of any that it had.

    Pixels, ICC profile, EXIF, alpha and every other chunk stay as they are, byte for byte; doing it
    twice changes nothing more. A signed C2PA manifest is broken by it: sign last. Raises ImageError
    for a broken file, and for a jpg where the packet is longer than ``jpeg.MAX_PACKET``.
    """
    structure = read_structure(body)
    return CONTAINERS[structure.image_format].replace_xmp(body, structure, packet)


def read_xmp(body: bytes) -> bytes | None:
    """The file's XMP packet as it stands there, or None. Raises ImageError for a broken file."""
    structure = read_structure(body)
    return CONTAINERS[structure.image_format].read_xmp(body, structure)


def strip_xmp(body: bytes) -> bytes:
    """The same file without XMP. Raises ImageError for a broken file."""
    structure = read_structure(body)
    return CONTAINERS[structure.image_format].replace_xmp(body, structure, None)
