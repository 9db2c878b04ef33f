"""The requests of every contestant: 1024 x 1024 px webp images, new ones each round."""

from flux_pipeline.models import build_request, find_model
from flux_pipeline.request import Request, Source

CONCURRENCY = 64
_MODEL = find_model("lucataco/flux-schnell-lora")


def make_requests(round_name: str, count: int) -> list[Request]:
    """The same requests for the same arguments."""
    return [
        build_request(
            _MODEL,
            _MODEL.input_type.model_validate({"prompt": f"{round_name} {number}", "seed": number}),
            Source("overhead", f"{round_name}-{number:04d}", partition=round_name),
        )
        for number in range(count)
    ]
