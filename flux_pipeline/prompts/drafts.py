"""Drafts: what a prompt set asks for, before seeds are drawn, hashes taken and requests made.

Sums and forecasts need a request's price or its fingerprint alone, and most of what it costs is the
rest.
"""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from flux_pipeline.models import RequestForm
from flux_pipeline.prompts.expansion import Entry, SeedRule, Variant
from flux_pipeline.prompts.inputs import CheckedInput
from flux_pipeline.request import JsonValue, Request, Source


class Origin(Protocol):
    """The part of a prompt set that its requests name."""

    @property
    def name(self) -> str:
        """See ``PromptSet.name``."""
        ...

    @property
    def path(self) -> str:
        """See ``PromptSet.path``."""
        ...

    @property
    def config_sha256(self) -> str:
        """See ``PromptSet.config_sha256``."""
        ...


class Draft(NamedTuple):
    """One request that a prompt set asks for."""

    form: RequestForm
    entry: Entry
    variant: Variant
    checked: CheckedInput
    origin: Origin
    partition: str
    day: str
    """YYYY-MM-DD where partitions are days, else empty."""
    take: int
    """1-based."""

    def fingerprint(self) -> str:
        """The fingerprint of the request: 64 hex digits."""
        return self.form.fingerprint(self._varying(), take=self.take, day=self.day)

    def request(self) -> Request:
        """The request itself."""
        origin, variant = self.origin, self.variant
        source = Source(
            origin.name,
            variant.name,
            self.take,
            self.partition,
            origin.path,
            origin.config_sha256,
            variant.stable_name,
        )
        return self.form.request(self._varying(), source, day=self.day)

    def _varying(self) -> Mapping[str, JsonValue]:
        entry, variant, checked = self.entry, self.variant, self.checked
        model = variant.model
        if not is_seeded(entry, variant):
            return checked.free
        given = checked.seed if entry.seed is SeedRule.GIVEN else None
        if given is not None:
            seed = given + self.take - 1
        else:  # also where the table has a seed and its row leaves it blank
            name = variant.stable_name or variant.name
            drawn = derived_seed(self.origin.name, name, self.take, self.day)
            seed = model.fit_seed(drawn)
        return {**checked.free, model.seed_input: seed}


def is_seeded(entry: Entry, variant: Variant) -> bool:
    """Whether requests of a prompt have a seed of their own."""
    return variant.model.takes_seed and entry.seed is not SeedRule.NONE


def derived_seed(prompt_set: str, stable_name: str, take: int, date: str = "") -> int:
    """A seed of 31 bits that depends on these four alone: stable over machines and versions.

    ``date`` is ``YYYY-MM-DD`` where partitions are days and empty elsewhere; how a set is cut
    into prompts or shards changes no seed.
    """
    text = f"{prompt_set}\0{stable_name}\0{take}\0{date}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
