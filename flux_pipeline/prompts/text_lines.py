"""Lines of a UTF-8 file, one at a time, with the place of every byte that is none."""

from collections.abc import Iterator
from typing import BinaryIO

from flux_pipeline.prompts.row import Report

MAX_LINE_BYTES = 2**20

_BOM = b"\xef\xbb\xbf"


def text_lines(file: BinaryIO, report: Report) -> Iterator[str]:
    """Every line with its end, as text; a byte order mark is dropped.

    A line that can't be read is reported and comes as far as it can be read, so that the numbers
    of the lines behind it stay right. At most ``MAX_LINE_BYTES`` are held.

    Raises:
        ValueError: the file is UTF-16.
    """
    number = offset = 0
    while data := file.readline(MAX_LINE_BYTES):
        number += 1
        size = len(data)
        if number == 1:
            if data.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise ValueError("is UTF-16: save as UTF-8")
            data = data.removeprefix(_BOM)
        skipped = size - len(data)
        if size == MAX_LINE_BYTES and not data.endswith(b"\n"):
            report(number, f"a line of more than {MAX_LINE_BYTES:,} bytes (1 MiB)")
            while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                size += len(rest)
            size, data = size + len(rest), b"\n"
        try:
            yield data.decode("utf-8")
        except UnicodeDecodeError as error:
            report(number, f"is not UTF-8 at byte {offset + skipped + error.start}: save as UTF-8")
            yield data.decode("utf-8", "replace")
        offset += size
