"""Fills a census: everything that the ledger and the lineage table say of images."""

import math
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from flux_pipeline.audit.census import IMAGES, Census
from flux_pipeline.audit.findings import Finding, Kind
from flux_pipeline.audit.judging import judge
from flux_pipeline.errors import LedgerError, StoreError
from flux_pipeline.ledger.base import Attempt, State
from flux_pipeline.ledger.codec import load_request
from flux_pipeline.lineage.parts import list_parts, read_parts
from flux_pipeline.lineage.record import ImageStatus, records_from_json
from flux_pipeline.produce.ingest import image_key
from flux_pipeline.store.base import Store

_COLUMNS = [
    "request_sha256",
    "output_index",
    "status",
    "uri",
    "file_sha256",
    "image_sha256",
    "stored_at",
]
_KEY_PARTS = 3


def survey_ledger(
    attempts: Iterable[Attempt],
    census: Census,
    *,
    store_uri: str,
    listed_since: float = math.inf,
) -> Iterator[Finding]:
    """Add every attempt to the census, and judge each request by its own attempts.

    ``attempts`` are ordered by request. ``listed_since``: unix seconds; the requests of attempts
    since then are remembered by their seeds, to be compared with the provider's list.
    """
    for _, group in groupby(attempts, key=lambda attempt: attempt.request_sha256):
        history = list(group)
        yield from judge(history)
        for attempt in history:
            if attempt.state is State.STORED:
                _add_stored(attempt, census, store_uri)
            if attempt.state.is_open or attempt.intent_at > listed_since:
                _add_request(attempt, census)


def survey_lineage(store: Store, census: Census) -> Iterator[Finding]:
    """Add every row of the lineage table; name the parts that can't be read.

    The parts and not the compacted table, which is derived from them.

    Raises:
        StoreError: Where the store can't be listed.
    """
    keys = list(list_parts(store))
    while keys:
        read = 0
        try:
            for _, table in read_parts(store, keys):
                read += 1
                for row in table.select(_COLUMNS).to_pylist():
                    _add_row(row, census, store.uri)
        except StoreError as error:
            if keys[read] in store.list(keys[read]):
                yield Finding(Kind.UNREADABLE, keys[read], str(error))
        keys = keys[read + 1 :]


def _add_row(row: dict[str, Any], census: Census, store_uri: str) -> None:
    stored = row["status"] == ImageStatus.STORED
    census.add_row(row["request_sha256"], row["output_index"], stored=stored)
    if stored and (uri := row["uri"]):
        census.add_lineage(
            key_of(uri, store_uri),
            row["file_sha256"] or "",
            row["image_sha256"] or "",
            str(row["stored_at"] or ""),
        )


def _add_stored(attempt: Attempt, census: Census, store_uri: str) -> None:
    try:
        records = records_from_json(attempt.images)
    except ValueError:
        return  # judged as unreadable
    for record in records:
        if record.status is ImageStatus.STORED and record.uri:
            census.add_ledger(
                key_of(record.uri, store_uri),
                record.file_sha256 or "",
                record.image_sha256 or "",
                recorded=attempt.recorded,
            )


def _add_request(attempt: Attempt, census: Census) -> None:
    try:
        request = load_request(attempt.intent.request_json)
    except LedgerError:
        return  # a rescue names it
    if request.seed is not None:
        census.add_request(request.seed, request.request_sha256)
    if attempt.state.is_open:
        for index in range(request.outputs):
            census.add_open(image_key(request, index))


def key_of(uri: str, store_uri: str) -> str:
    """The key of an object in a store, from its address; also where the store was moved since.

    A store that lies elsewhere today holds the same keys, and an image's key has three parts.
    """
    if uri.startswith(f"{store_uri}/"):
        return uri[len(store_uri) + 1 :]
    parts = uri.rsplit("/", _KEY_PARTS)[-_KEY_PARTS:]
    return "/".join(parts) if f"{parts[0]}/" == IMAGES else uri
