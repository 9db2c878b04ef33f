"""Seeds: every request carries one of its own, so that it can be found, repeated and told apart.

A model without a given seed draws one of only 65,536, and a lost reply can be matched to its
prediction only if no other request has the same input.
"""

import hashlib


def derived_seed(prompt_set: str, prompt_name: str, take: int, date: str = "") -> int:
    """A seed of 31 bits that depends on these four alone: stable over machines and versions.

    ``date`` is ``YYYY-MM-DD`` where partitions are days and empty elsewhere; how a set is cut
    into prompts or shards changes no seed.
    """
    text = "\0".join((prompt_set, prompt_name, str(take), date))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
