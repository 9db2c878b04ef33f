"""What a failed prediction's message means: try again, never again, or refused by a filter."""

import re
from typing import Literal

Verdict = Literal["transient", "refused", "permanent"]

# The codes that the provider documents as its own trouble, not the input's.
_TRANSIENT = re.compile(r"\(?code: ?PA\)?|\b(?:E9828|E6716|E8765|E9243|E1001)\b")
_FILTERED = re.compile(r"NSFW content detected", re.IGNORECASE)


def judge_failure(error: str | None) -> Verdict:
    """Judge by the message; a missing message is the provider's own trouble."""
    if not error:
        return "transient"
    if _FILTERED.search(error):
        return "refused"
    return "transient" if _TRANSIENT.search(error) else "permanent"
