"""A request that is sent once more on purpose: in a place of its own, beside the original's.

It has the original's input and model, and another fingerprint: that of the original and of the
number of the take. So the ledger, the store and the table hold it as a request of its own, and
whatever resumes or rescues it needs to know nothing of this.
"""

import hashlib
import re
from dataclasses import replace

import rfc8785

from flux_pipeline.lineage.record import ImageRecord
from flux_pipeline.request import Request

_OF = "reproduction-of-"
_PARTITION = re.compile(rf"{_OF}([0-9a-f]{{64}})")


def again(request: Request, take: int) -> Request:
    """The ``take``-th reproduction (1-based) of a request; the same for the same two.

    What says that it is one is in its source: the partition names the original's fingerprint, the
    prompt's name ends in ``(reproduction)``, and the take is the reproduction's.
    """
    original = request.request_sha256
    slot = rfc8785.dumps({"reproduction_of": original, "take": take})
    return replace(
        request,
        request_sha256=hashlib.sha256(slot).hexdigest(),
        source=replace(
            request.source,
            prompt_name=f"{request.source.prompt_name} (reproduction)",
            take=take,
            partition=reproductions_of(original),
        ),
    )


def reproductions_of(request_sha256: str) -> str:
    """The partition of every reproduction of a request."""
    return f"{_OF}{request_sha256}"


def original_request(record: ImageRecord) -> str | None:
    """The fingerprint of the request that a record reproduces; None where it is an original."""
    found = _PARTITION.fullmatch(record.partition)
    return found[1] if found else None
