"""One reply of the API, read whole, and the JSON in it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flux_pipeline.errors import FluxPipelineError

ERROR_BYTES = 2**20
"""Cap on every reply that is no success."""


class UnreadableReply(FluxPipelineError):
    """Raised inside the provider for a body that is unread or no JSON object."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, headers with lower-case names, and at most as many bytes as allowed."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    unread: str = ""
    """Why the body was not read, or not to its end; empty where it was."""

    @property
    def succeeded(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004

    def describe(self) -> str:
        """Status, type and size, for a message."""
        kind = self.headers.get("content-type", "no type").partition(";")[0].strip()[:40]
        size = self.unread or f"{len(self.body)} bytes"
        return f"{self.status}, {kind}, {size}"


def load_object(reply: Reply) -> dict[str, Any]:
    """Return the reply's JSON object; NaN and infinities in it become None.

    Raises:
        UnreadableReply: For a body that was not read, is cut, too deep, or something else.
    """
    if reply.unread:
        raise UnreadableReply(f"the reply was not read ({reply.describe()})")
    try:
        value = json.loads(reply.body, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        raise UnreadableReply(f"the reply is no JSON ({reply.describe()})") from None
    if not isinstance(value, dict):
        raise UnreadableReply(f"the reply is no JSON object ({reply.describe()})")
    return value
