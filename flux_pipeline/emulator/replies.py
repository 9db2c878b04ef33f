"""Predictions in the API's words: the object, the list, and the shape without an id."""

import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from flux_pipeline.emulator.lifecycle import Moment
from flux_pipeline.emulator.records import Record

DEFAULT_MODEL = "lucataco/flux-schnell-lora"


def prediction(
    record: Record, moment: Moment, output: Sequence[str] | str | None, trap_origin: str
) -> dict[str, Any]:
    """The prediction object; ``output`` holds URLs or data URIs, or null."""
    digits = fractional_digits(record.id)
    return {
        "id": record.id,
        "model": record.model or DEFAULT_MODEL,
        "version": record.plan.served_version or record.version,
        "input": {} if moment.removed else dict(record.input),
        "logs": "" if moment.removed else _logs(record, moment),
        "output": output,
        "data_removed": moment.removed,
        "error": moment.error,
        "status": moment.status,
        "created_at": timestamp(record.created_at, digits),
        "started_at": timestamp(moment.started_at, digits),
        "completed_at": timestamp(moment.completed_at, digits),
        "metrics": _metrics(record, moment),
        "urls": {
            "get": f"{trap_origin}/v1/predictions/{record.id}",
            "cancel": f"{trap_origin}/v1/predictions/{record.id}/cancel",
            "stream": f"{trap_origin}/v1/files/{record.id}",
            "web": f"{trap_origin}/p/{record.id}",
        },
    }


def without_id(created_at: float, outputs: Sequence[dict[str, str]]) -> dict[str, Any]:
    """The aggregator's ``data[]`` shape: each item holds a ``url`` or a ``b64_json``."""
    return {"created": int(created_at), "data": list(outputs)}


def timestamp(seconds: float | None, digits: int) -> str | None:
    """RFC 3339 in UTC with so many fractional digits, cut rather than rounded."""
    if seconds is None:
        return None
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
    return f"{text[:26]}000"[: 20 + digits] + "Z"


def fractional_digits(prediction_id: str) -> int:
    """3, 6 or 9: the API is known to give all of them."""
    return (3, 6, 9)[zlib.crc32(prediction_id.encode()) % 3]


def _metrics(record: Record, moment: Moment) -> dict[str, float]:
    if moment.completed_at is None or moment.started_at is None:
        return {}
    metrics: dict[str, float] = {
        "predict_time": round(moment.completed_at - moment.started_at, 6),
        "total_time": round(moment.completed_at - record.created_at, 6),
    }
    if moment.outputs is not None:
        metrics["image_count"] = len(moment.outputs)
    return metrics


def _logs(record: Record, moment: Moment) -> str:
    if moment.status == "starting" or moment.started_at is None:
        return ""
    lines = [] if record.typed_input.seed is not None else [f"Using seed: {record.plan.seed}"]
    steps = record.typed_input.num_inference_steps
    lines.append(f"  0%|          | 0/{steps} [00:00<?, ?it/s]")
    if moment.status == "succeeded":
        lines.append(f"100%|██████████| {steps}/{steps} [00:00<00:00, 11.20it/s]")
        lines += [f"NSFW content detected in image {index}" for index in record.plan.refused]
    if moment.status == "failed":
        lines.append(f"Traceback (most recent call last):\n{moment.error or 'worker lost'}")
    return "\n".join(lines) + "\n"
