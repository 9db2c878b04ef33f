"""Asks the provider for something that is free, to see whether it answers and takes the key."""

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from flux_pipeline.provider.config import ProviderConfig
from flux_pipeline.provider.http import ApiClient, Reply
from flux_pipeline.redaction import redact_untrusted

_MOST_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Reached:
    """What came of one GET of the list of predictions."""

    url: str
    status: int = 0
    """0 where nothing answered."""
    error: str = ""
    """Why nothing answered."""
    seconds: float = 0.0
    ahead: float | None = None
    """By how many seconds this machine's clock is ahead of the provider's; None: not known."""


async def reach(config: ProviderConfig) -> Reached:
    """Ask once; nothing is created, whatever the provider is."""
    begun = time.time()
    async with ApiClient(config) as api:
        reply = await api.send(
            "GET",
            config.predictions_url,
            deadline=config.timeouts.call,
            max_bytes=_MOST_BYTES,
        )
    ended = time.time()
    url = config.predictions_url
    if not isinstance(reply, Reply):
        said = redact_untrusted(str(reply), config.api_key) or type(reply).__name__
        return Reached(url, error=said, seconds=ended - begun)
    ahead = _ahead(reply.headers.get("date", ""), (begun + ended) / 2)
    return Reached(url, reply.status, seconds=ended - begun, ahead=ahead)


def _ahead(date: str, now: float) -> float | None:
    try:
        return now - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
