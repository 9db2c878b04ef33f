"""Finds the pictures that requests of a chain have made, in the ledger, for the set that follows.

A picture whose request is open, failed for now or was never sent is planned: it may still come. A
request that has ended for good without a picture has no followers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flux_pipeline.ledger.base import Attempt, Ledger
from flux_pipeline.lineage.record import ImageRecord, ImageStatus, records_from_json
from flux_pipeline.produce.policy import Policy, final_status
from flux_pipeline.prompts.chain import plan_picture
from flux_pipeline.request import InputPicture, Request

_CONTENT_TYPES = {"webp": "image/webp", "jpg": "image/jpeg", "png": "image/png"}
_POLICY = Policy()


@dataclass(frozen=True, slots=True)
class LedgerPictures:
    """The pictures of requests by their latest attempts; see ``prompts.chain.PictureLookup``."""

    ledger: Ledger

    def find(self, requests: Sequence[Request]) -> Sequence[Sequence[InputPicture]]:
        """The pictures of each request: stored ones, else planned ones, else none."""
        latest = self.ledger.find([each.request_sha256 for each in requests])
        return [
            pictures_of(request, latest.get(request.request_sha256), _POLICY)
            for request in requests
        ]


def pictures_of(request: Request, latest: Attempt | None, policy: Policy) -> Sequence[InputPicture]:
    """The pictures of one request by its latest attempt."""
    if final_status(latest, policy) is None:
        return [plan_picture(request, index) for index in range(request.outputs)]
    records = records_from_json(latest.images) if latest is not None else []
    return list(stored_pictures(records))


def stored_pictures(records: Sequence[ImageRecord]) -> Iterator[InputPicture]:
    """The pictures that are stored, of the records of one request."""
    for record in records:
        if record.status is ImageStatus.STORED and record.file_sha256 and record.uri:
            yield InputPicture(
                sha256=record.file_sha256,
                uri=record.uri,
                bytes=record.bytes or 0,
                content_type=_CONTENT_TYPES.get(record.format, ""),
                width=record.width or 0,
                height=record.height or 0,
                request_sha256=record.request_sha256,
            )
