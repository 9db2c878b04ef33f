"""A prompt set's requests, partition by partition, as a producer reads them: lazily, in one order.

A shard's prompts lie scattered over the whole file, and every pass over a large table costs time.
So several shards are read in one pass, as many as fit into ``AT_ONCE`` requests.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from flux_pipeline.prompts import ByShard, PromptSet
from flux_pipeline.request import Request

AT_ONCE = 20_000
"""Requests held at most (about 2 KB each), unless one shard alone has more."""


@dataclass(slots=True)
class Content:
    """What one partition asks for."""

    requests: int = 0
    images: int = 0
    usd: float = 0.0
    """By estimate, if all of it had to be made."""
    prompt: str = ""
    """Of the first request, as it is sent."""


def read_contents(prompt_set: PromptSet, partitions: Sequence[str]) -> dict[str, Content]:
    """Count what the partitions ask for, in one pass; an empty shard has a content too.

    Raises:
        ConfigError: As ``PromptSet.requests``.
    """
    contents = {key: Content() for key in partitions}
    for request in prompt_set.requests(partitions):
        content = contents[request.source.partition]
        content.requests += 1
        content.images += request.outputs
        content.usd += request.cost_usd
        content.prompt = content.prompt or str(request.input.get("prompt", ""))
    return contents


def requests_by_partition(
    prompt_set: PromptSet, partitions: Sequence[str]
) -> Iterator[tuple[str, Iterable[Request]]]:
    """Give each partition with its requests; read one whole before the next is taken.

    Raises:
        ConfigError: As ``PromptSet.requests``.
    """
    if isinstance(prompt_set.partitions, ByShard):
        yield from _by_shard(prompt_set, deque(partitions))
    else:
        # A prompt's takes, and a day's prompts, follow each other.
        requests = prompt_set.requests(partitions)
        yield from groupby(requests, key=lambda request: request.source.partition)


def _by_shard(prompt_set: PromptSet, todo: deque[str]) -> Iterator[tuple[str, Iterable[Request]]]:
    at_once = 1
    while todo:
        shards: dict[str, list[Request]] = {
            todo.popleft(): [] for _ in range(min(at_once, len(todo)))
        }
        for request in prompt_set.requests(shards):
            shards[request.source.partition].append(request)
        at_once = max(1, AT_ONCE * len(shards) // max(1, sum(map(len, shards.values()))))
        yield from shards.items()
