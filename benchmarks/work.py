"""The requests of every contestant: 1024 x 1024 px webp images, new ones each round."""

from collections.abc import Iterator

from flux_pipeline.models import build_request, find_model
from flux_pipeline.request import Request, Source

CONCURRENCY = 64
_A_SHARD = 500
"""What is proposed to sets of many prompts (``prompts.load``, which would add to the memory)."""
_MODEL = find_model("lucataco/flux-schnell-lora")


def make_requests(round_name: str, count: int) -> list[Request]:
    """The same requests for the same arguments."""
    return [_make_request(round_name, number) for number in range(count)]


def make_shards(round_name: str, count: int) -> Iterator[tuple[str, list[Request]]]:
    """The same requests in shards.

    Each is made when it is begun: a prompt set's requests are not held all at once either.
    """
    for first in range(0, count, _A_SHARD):
        numbers = range(first, min(first + _A_SHARD, count))
        yield f"{round_name}-{first}", [_make_request(round_name, number) for number in numbers]


def _make_request(round_name: str, number: int) -> Request:
    given = {"prompt": f"{round_name} {number}", "seed": number}
    source = Source("overhead", f"{round_name}-{number:04d}", partition=round_name)
    return build_request(_MODEL, _MODEL.input_type.model_validate(given), source)
