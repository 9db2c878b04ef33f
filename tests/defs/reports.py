"""Builds image records, results and partition reports as a producer gives them."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.produce.report import PartitionReport, Result, ResultStatus
from flux_pipeline.request import Request, Source


def digest(word: object) -> str:
    return sha256(str(word).encode()).hexdigest()


def build_record(
    word: object = "a", status: ImageStatus = ImageStatus.STORED, **changes: Any
) -> ImageRecord:
    stored = status is ImageStatus.STORED
    known: dict[str, Any] = {
        "image_sha256": digest(f"pixels {word}") if stored else None,
        "prediction_id": f"prediction-{word}",
        "output_index": 0,
        "request_sha256": digest(f"request {word}"),
        "prompt_set": "winter",
        "prompt_name": "castle",
        "take": 1,
        "partition": "castle",
        "model": "lucataco/flux-schnell-lora",
        "version": digest("version"),
        "prompt": "a castle",
        "num_outputs": 1,
        "seed": 7,
        "seed_source": "request",
        "input": "{}",
        "run_id": "run-1",
        "asset": "winter/images",
        "config_path": "winter.yaml",
        "config_sha256": digest("config"),
        "code_version": "",
        "status": status,
        "uri": f"file:///{word}.webp" if stored else None,
        "format": "webp",
        "width": 64 if stored else None,
        "height": 64 if stored else None,
    }
    return ImageRecord(**(known | changes))


def build_result(
    *,
    status: ResultStatus = ResultStatus.STORED,
    images: Sequence[ImageRecord] | None = None,
    outputs: int = 1,
    prompt: str = "a castle",
    size: tuple[int, int] = (64, 64),
    aspect_ratio: str = "",
    **changes: Any,
) -> Result:
    request = Request(
        model="lucataco/flux-schnell-lora",
        version=digest("version"),
        input={"prompt": prompt, "seed": 7},
        request_sha256=digest("request"),
        outputs=outputs,
        width=size[0],
        height=size[1],
        image_format="webp",
        cost_usd=0.003,
        source=Source("winter", "castle", partition="castle"),
        aspect_ratio=aspect_ratio,
    )
    records = tuple([build_record()] if images is None else images)
    return Result(request, status, records, **changes)


def build_report(partition: str, *results: Result) -> PartitionReport:
    return PartitionReport(partition, results, 1.5)
