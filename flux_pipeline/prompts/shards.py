"""Which shard a prompt belongs to: decided by its name alone, so that a new row moves no other."""

import hashlib


def shard_of(prompt_name: str, count: int) -> int:
    """The index of the prompt's shard, 0 to ``count`` - 1; the same on every machine."""
    digest = hashlib.sha256(prompt_name.encode()).digest()
    return int.from_bytes(digest[:8], "big") % count


def shard_key(index: int) -> str:
    """The partition key of a shard, such as ``shard-0007``."""
    return f"shard-{index:04d}"
