"""Maps what a reply calls its output to numbered images.

Images that the provider refused are left out of the list, and the files keep their batch number
(``out-0``, ``out-1``, ``out-3``): so the number comes from the file name, and the position counts
only where no name tells.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from flux_pipeline.prediction import Output

_NAME = re.compile(r"out-(\d{1,3})\.[A-Za-z0-9]+")
_MOST = 64  # no model makes more; a longer list is cut


def outputs_of(value: Any) -> tuple[Output, ...]:
    """The images of ``output``: null, a string, or a list of URLs, data URIs or ``{url}`` objects.

    In the order of their numbers. Anything else in the list is no image and is left out.
    """
    return _numbered([value] if isinstance(value, (str, Mapping)) else value)


def outputs_of_data(value: Any) -> tuple[Output, ...]:
    """The images of ``data``: a list of ``{url}`` or ``{b64_json}``."""
    return _numbered(value)


def _numbered(values: Any) -> tuple[Output, ...]:
    if not isinstance(values, list):
        return ()
    placed = [(place, url) for place, each in enumerate(values[:_MOST]) for url in _urls(each)]
    named = {number: url for _, url in placed if (number := _number_in(url)) is not None}
    numbered = sorted(named.items()) if len(named) == len(placed) else placed
    return tuple(Output(index=index, url=url) for index, url in numbered)


def _urls(value: Any) -> Iterator[str]:
    """Yield the one URL or data URI of an element, or nothing."""
    if isinstance(value, Mapping):
        inline = value.get("b64_json")
        if isinstance(inline, str) and inline:
            yield inline if inline.startswith("data:") else f"data:;base64,{inline}"
            return
        value = value.get("url")
    if isinstance(value, str) and value.startswith(("https://", "http://", "data:")):
        yield value


def _number_in(url: str) -> int | None:
    if url.startswith("data:"):
        return None
    try:
        path = urlsplit(url).path
    except ValueError:
        return None
    name = _NAME.fullmatch(path.rpartition("/")[2])
    return int(name[1]) if name else None


def is_complete(outputs: Sequence[Output], asked: object) -> bool:
    """Whether a prediction that still runs has all its images: as many as its input asks for."""
    return isinstance(asked, int) and not isinstance(asked, bool) and 0 < asked <= len(outputs)
