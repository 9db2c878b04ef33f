"""A request to the provider: it asks for one prediction, and has one fingerprint.

``request_sha256`` names the *cause* of an image. It covers the model version and the input with
defaults filled in, secrets redacted and parameters without effect dropped, and nothing of the run,
the time, the endpoint or the key: the same request has the same fingerprint everywhere, which is
what makes "unchanged is free" and "paid once" decidable.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import rfc8785

JsonValue: TypeAlias = "str | int | float | bool | list[JsonValue] | dict[str, JsonValue] | None"


def fingerprint(version: str, effective_input: Mapping[str, JsonValue]) -> str:
    """SHA-256, as 64 hex digits, of the RFC 8785 form of ``{version, input}``.

    RFC 8785 and not ``json.dumps(sort_keys=True)``: they differ on 1.0, 1e-07 and keys beyond the
    basic plane.
    """
    canonical = rfc8785.dumps({"version": version, "input": dict(effective_input)})
    return hashlib.sha256(canonical).hexdigest()


@dataclass(frozen=True, slots=True)
class Source:
    """Where a request comes from: the prompt, its take and partition, and the file's state."""

    prompt_set: str
    prompt_name: str
    take: int = 1
    """1-based."""
    partition: str = ""
    config_path: str = ""
    config_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """One prediction to be made, with all that is known before it is sent."""

    model: str
    """``owner/name``."""
    version: str
    """64 hex digits."""
    input: Mapping[str, JsonValue] = field(hash=False, repr=False)
    """The JSON object that is sent, to the letter."""
    request_sha256: str
    outputs: int
    """Images asked for, 1 to 4."""
    width: int
    """px; 0 where the image takes the shape of one that the input names."""
    height: int
    """px; 0 as ``width``."""
    image_format: str
    """``webp``, ``jpg`` or ``png``."""
    cost_usd: float
    """Estimate from the model's price table, for the whole prediction."""
    source: Source

    @property
    def seed(self) -> int | None:
        """The explicit seed, or None where the provider draws one."""
        seed = self.input.get("seed")
        return seed if isinstance(seed, int) else None

    def body(self) -> dict[str, JsonValue]:
        """The JSON object of the create call: the version with its model's name, and the input."""
        return {"version": f"{self.model}:{self.version}", "input": dict(self.input)}
