"""Finds the pictures that went into a picture, and the rows of those that this project has made.

A recorded input names them by the SHA-256 of their bytes, and so does the row of the picture that
was stored: a chain is followed through the lineage table alone.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flux_pipeline.lineage.query import Snapshot, find_exact
from flux_pipeline.lineage.record import (
    WAS_STORED,
    ImageRecord,
    ImageStatus,
    original_request,
)
from flux_pipeline.request import PICTURE_PREFIX

_DEEPEST = 20
"""Steps of a chain that are followed: no chain can be a circle, but a table may be wrong."""


@dataclass(frozen=True, slots=True)
class SourceImage:
    """A picture that went into a prediction."""

    input: str
    """The name of the input that it was given as."""
    sha256: str
    """64 hex digits, of the file's bytes."""
    record: ImageRecord | None
    """Its row, where this project has made it; None for a file of somebody's own."""
    sources: tuple["SourceImage", ...] = ()
    """What it was made from itself."""


def trace_sources(
    snapshot: Snapshot, record: ImageRecord, *, steps: int = _DEEPEST
) -> tuple[SourceImage, ...]:
    """The pictures that went into an image, each with those that went into it, and so on."""
    found = []
    for name, sha256 in named_pictures(record.input):
        made = find_source(snapshot, sha256)
        before = trace_sources(snapshot, made, steps=steps - 1) if made and steps else ()
        found.append(SourceImage(name, sha256, made, before))
    return tuple(found)


def named_pictures(recorded: str) -> Iterator[tuple[str, str]]:
    """The input's name and the SHA-256 of each picture in a recorded input, in their order."""
    try:
        values = json.loads(recorded or "{}")
    except ValueError:
        return
    for name, value in values.items() if isinstance(values, dict) else ():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str) and each.startswith(PICTURE_PREFIX):
                yield name, each.removeprefix(PICTURE_PREFIX)


def find_source(snapshot: Snapshot, sha256: str) -> ImageRecord | None:
    """The image whose file has these bytes: what is there first, an original first."""
    rows = find_exact(snapshot, "file_sha256", sha256)
    stored = [row for row in rows if row.status in WAS_STORED and row.uri]
    return min(stored, key=_originals_first, default=None)


def _originals_first(row: ImageRecord) -> tuple[bool, bool]:
    return row.status is not ImageStatus.STORED, original_request(row) is not None


def describe_source(source: SourceImage) -> dict[str, Any]:
    """A source as JSON has it: what is not known is null."""
    row = source.record
    return {
        "input": source.input,
        "sha256": source.sha256,
        "uri": row.uri if row else None,
        "request_sha256": row.request_sha256 if row else None,
        "output_index": row.output_index if row else None,
        "prompt_set": row.prompt_set if row else None,
        "prompt_name": row.prompt_name if row else None,
        "model": row.model if row else None,
        "sources": [describe_source(each) for each in source.sources],
    }
