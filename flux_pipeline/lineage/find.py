"""Images found again among all that were recorded: by a hash, an id, their prompt, their looks."""

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flux_pipeline.lineage.record import ImageRecord
from flux_pipeline.lineage.schema import SCHEMA, batch_to_records
from flux_pipeline.lineage.snapshot import Snapshot, Test

Column: TypeAlias = Literal[
    "asset",
    "config_sha256",
    "file_sha256",
    "image_sha256",
    "partition",
    "prediction_id",
    "prompt_name",
    "prompt_set",
    "request_sha256",
    "run_id",
    "status",
    "uri",
]
"""What can be searched for an exact value."""
NEAR = 6
"""Bits of 64 in which the difference hashes of an image and its resized copy differ at most."""
LIMIT = 100


def find_exact(
    snapshot: Snapshot, column: Column, value: str, *, limit: int | None = LIMIT
) -> list[ImageRecord]:
    """The images with exactly this value in this column, last first, at most ``limit``."""
    wanted = pa.scalar(value)
    return list(islice(_records(snapshot, column, lambda values: pc.equal(values, wanted)), limit))


def find_prefix(
    snapshot: Snapshot, column: Column, prefix: str, *, limit: int | None = LIMIT
) -> list[ImageRecord]:
    """The images whose value in this column begins so, last first, at most ``limit``."""
    found = _records(snapshot, column, lambda values: pc.starts_with(values, prefix))
    return list(islice(found, limit))


def find_prompt(snapshot: Snapshot, text: str, *, limit: int | None = LIMIT) -> list[ImageRecord]:
    """The images whose prompt contains this text in any case, last first, at most ``limit``."""
    found = _records(
        snapshot,
        "prompt",
        lambda values: pc.match_substring(values, text, ignore_case=True),
    )
    return list(islice(found, limit))


def find_all(
    snapshot: Snapshot,
    *,
    prompt: str | None = None,
    run_id: str | None = None,
    prompt_set: str | None = None,
    limit: int | None = LIMIT,
) -> list[ImageRecord]:
    """The images of this run and set whose prompt contains this text; of any that is not given."""
    if prompt is not None:
        found = _records(
            snapshot, "prompt", lambda values: pc.match_substring(values, prompt, ignore_case=True)
        )
    else:
        column = "run_id" if run_id is not None else "prompt_set"
        wanted = pa.scalar(run_id or prompt_set or "")
        found = _records(snapshot, column, lambda values: pc.equal(values, wanted))
    fitting = (
        record
        for record in found
        if run_id in {None, record.run_id} and prompt_set in {None, record.prompt_set}
    )
    return list(islice(fitting, limit))


def find_similar(
    snapshot: Snapshot, dhash: int, *, distance: int = NEAR, limit: int | None = LIMIT
) -> list[tuple[int, ImageRecord]]:
    """The images that look like this one, each with the number of bits that differ, least first.

    A difference hash proves nothing, and a cropped copy is not found: look at what comes.
    """
    found = [
        (((record.dhash or 0) ^ dhash).bit_count(), record)
        for record in _records(snapshot, "dhash", partial(_near, dhash, distance))
    ]
    return sorted(found, key=lambda pair: pair[0])[:limit]


def _near(dhash: int, distance: int, values: Any) -> Any:
    bits = np.bitwise_count(values.fill_null(0).to_numpy() ^ np.uint64(dhash))
    return pa.array((bits <= distance) & values.is_valid().to_numpy())


def _records(snapshot: Snapshot, column: str, test: Test) -> Iterator[ImageRecord]:
    for table in snapshot.find(column, test, SCHEMA.names):
        for batch in table.to_batches(max_chunksize=LIMIT):
            yield from batch_to_records(batch)
