"""Finds prompts of one name, and prompts of one input, among a million without holding them.

The first pass keeps 64-bit hashes, 8 bytes each; only what is equal there is looked at, and
compared in full, in a second one.
"""

import unicodedata
from array import array
from collections.abc import Hashable
from itertools import pairwise

from flux_pipeline.models import ModelInput
from flux_pipeline.prompts.entry import SeedRule, Variant

MAX_TWINS_HELD = 10_000
"""More than anybody reads; a table of nothing but pairs must not fill the memory."""


class Hashes:
    """The hashes of everything seen."""

    def __init__(self) -> None:
        self._hashes = array("q")

    def add(self, value: Hashable) -> None:
        """Take one value."""
        self._hashes.append(hash(value))

    def repeated(self) -> frozenset[int]:
        """The hashes that came more than once."""
        return frozenset(a for a, b in pairwise(sorted(self._hashes)) if a == b)


def identity(values: ModelInput) -> Hashable:
    """What two prompts share that look alike: every input, accents in one encoding."""
    if values.prompt.isascii():
        return tuple(values.__dict__.values())
    normal = unicodedata.normalize("NFC", values.prompt)
    return tuple({**values.__dict__, "prompt": normal}.values())


class Twins:
    """Second pass: remembers the first prompt of every name and input that comes again."""

    def __init__(self, names: frozenset[int], inputs: frozenset[int]) -> None:
        self._names = names
        self._inputs = inputs
        self._first_of_name: dict[str, str] = {}
        self._first_of_input: dict[Hashable, tuple[str, str]] = {}

    def __bool__(self) -> bool:
        return bool(self._names or self._inputs)

    def same_name(self, variant: Variant) -> str | None:
        """What to say of a prompt whose name another one has already."""
        if hash(variant.name) not in self._names:
            return None
        if variant.name not in self._first_of_name:
            if len(self._first_of_name) < MAX_TWINS_HELD:
                self._first_of_name[variant.name] = variant.described()
            return None
        first = self._first_of_name[variant.name]
        return f"an earlier prompt{first} is named {variant.name} too: change one of the keys"

    def same_input(self, variant: Variant, values: ModelInput, seed: SeedRule) -> str | None:
        """What to say of a prompt that asks for the same as another one."""
        cause = identity(values)
        if hash(cause) not in self._inputs:
            return None
        if cause not in self._first_of_input:
            if len(self._first_of_input) < MAX_TWINS_HELD:
                self._first_of_input[cause] = (variant.name, values.prompt)
            return None
        first, prompt = self._first_of_input[cause]
        if prompt != values.prompt:
            return f"differs from {first} only in how accents are encoded (NFC and NFD)"
        if seed is SeedRule.DERIVED:
            return f"is the same as {first}: each is made, with a seed of its own"
        return f"is the same request as {first}: made and paid once"
