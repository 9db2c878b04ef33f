"""Recognises the encoding of a table that is not UTF-8, so that one message says what to do."""

import codecs
import re

SAMPLE_BYTES = 2**16
SAVE_AS = 'save as UTF-8 (in Excel: "CSV UTF-8")'
_BOMS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""The longer ones first: UTF-16's is the start of UTF-32's."""
_HIGH = re.compile(rb"[\x80-\xff]+")


def describe_encoding(sample: bytes) -> str:
    """What is wrong with the encoding of a file that starts so; empty if it may be UTF-8.

    A file that is UTF-8 but for some rows is not recognised: its rows are reported one by one.
    """
    for mark, name in _BOMS.items():
        if sample.startswith(mark):
            return f"is {name}: {SAVE_AS}"
    # Text of Latin letters in UTF-16 has a NUL in every other byte.
    half = max(len(sample) // 2, 1)
    if max(sample[::2].count(0), sample[1::2].count(0)) * 4 > half:
        return f"is UTF-16 without a byte order mark: {SAVE_AS}"
    if _is_east_asian(sample):
        return f"is GBK by its bytes (or Big5, or EUC-KR), not UTF-8: {SAVE_AS}"
    return ""


def _is_east_asian(sample: bytes) -> bool:
    """Whether the bytes beyond ASCII come in pairs, as in GBK, and not as UTF-8 has them."""
    decoder = codecs.getincrementaldecoder("gb18030")()
    runs = [found[0] for found in _HIGH.finditer(sample)]
    foreign = [run for run in runs if not _is_utf8(run)]
    if len(foreign) * 2 <= len(runs):
        return False
    pairs = sum(1 for run in foreign if len(run) % 2 == 0)
    try:
        decoder.decode(sample)
    except UnicodeDecodeError:
        return False
    return pairs * 2 > len(foreign)


def _is_utf8(run: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(run)
    except UnicodeDecodeError:
        return False
    return True
