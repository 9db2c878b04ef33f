"""Finds prompts of the same name or the same input among a million without holding them.

The first pass keeps one 64-bit hash a prompt. Only prompts whose hash comes again are compared in
full, in a second pass.
"""

from array import array
from collections.abc import Hashable, Iterable
from itertools import pairwise

from flux_pipeline.prompts.expansion import SeedRule, Variant
from flux_pipeline.prompts.inputs import CheckedInput

MAX_DUPLICATES_HELD = 10_000
"""More than anybody reads; a table of nothing but pairs must not fill the memory."""
_WORTH_NUMPY = 200_000
"""Hashes that are sorted sooner by NumPy, its import of a tenth of a second included."""


class Hashes:
    """The first pass: the hash of every value, 8 bytes each."""

    def __init__(self) -> None:
        self._hashes = array("q")

    def add_all(self, values: Iterable[Hashable]) -> None:
        """Add some values."""
        self._hashes.extend(map(hash, values))

    def __len__(self) -> int:
        return len(self._hashes)

    def find_repeated(self) -> frozenset[int]:
        """The hashes that came more than once."""
        if len(self._hashes) < _WORTH_NUMPY:
            return frozenset(a for a, b in pairwise(sorted(self._hashes)) if a == b)
        import numpy as np  # noqa: PLC0415

        ordered = np.sort(np.frombuffer(self._hashes, np.int64))
        return frozenset(ordered[1:][ordered[1:] == ordered[:-1]].tolist())


class DuplicateFinder:
    """The second pass: remembers the first prompt of every name and input that comes again."""

    def __init__(self, names: Hashes, inputs: Hashes) -> None:
        self._repeated_names = names.find_repeated()
        self._repeated_inputs = inputs.find_repeated()
        self._first_of_name: dict[str, str] = {}
        self._first_of_input: dict[Hashable, tuple[str, str]] = {}

    def __bool__(self) -> bool:
        return bool(self._repeated_names or self._repeated_inputs)

    def find_same_name(self, variant: Variant) -> str | None:
        """The message for a prompt whose name an earlier one has; None for the first of them."""
        if hash(variant.name) not in self._repeated_names:
            return None
        if variant.name not in self._first_of_name:
            if len(self._first_of_name) < MAX_DUPLICATES_HELD:
                self._first_of_name[variant.name] = variant.describe()
            return None
        first = self._first_of_name[variant.name]
        return f"an earlier prompt{first} is named {variant.name} too: change one of the keys"

    def find_same_input(
        self, variant: Variant, checked: CheckedInput, seed: SeedRule
    ) -> str | None:
        """The message for a prompt that asks for the same as an earlier one; None for the first."""
        comparable = checked.comparable()
        if hash(comparable) not in self._repeated_inputs:
            return None
        if comparable not in self._first_of_input:
            if len(self._first_of_input) < MAX_DUPLICATES_HELD:
                self._first_of_input[comparable] = (variant.name, checked.prompt)
            return None
        first, prompt = self._first_of_input[comparable]
        if prompt != checked.prompt:
            return f"differs from {first} only in how accents are encoded (NFC and NFD)"
        if seed is SeedRule.DERIVED and variant.model.takes_seed:
            return f"is the same as {first}: each is made, with a seed of its own"
        return f"is the same request as {first}: made and paid once"
