"""Builds lineage records from a request, its attempt and its prediction."""

import re
from datetime import UTC, datetime
from pathlib import PurePath

import rfc8785

from flux_pipeline.ledger.base import Attempt
from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.models import effective_input, measured_usd
from flux_pipeline.prediction import Prediction
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.redaction import redact_input
from flux_pipeline.request import JsonValue, Request, Source, canonical_json

_LOGGED_SEED = re.compile(r"Using seed: (\d+)")


def build_record(
    request: Request,
    run: RunContext,
    *,
    index: int,
    status: ImageStatus,
    error: str | None = None,
    attempt: Attempt | None = None,
    prediction: Prediction | None = None,
    polls: int = 0,
) -> ImageRecord:
    """Build the record of one image asked for, without what only the stored bytes can tell.

    ``run_id`` is the run that paid, which is not always the run that stores: so a prediction gets
    the same label, byte for byte, whichever run finishes it.
    """
    source = request.source
    given, effective = redact_input(request.input), redact_input(effective_input(request))
    seed, seed_source = _seed(request, prediction)
    return ImageRecord(
        prediction_id=prediction.id if prediction else attempt.prediction_id if attempt else None,
        output_index=index,
        request_sha256=request.request_sha256,
        prompt_set=source.prompt_set,
        prompt_name=source.prompt_name,
        take=source.take,
        partition=source.partition,
        model=request.model,
        version=request.version,
        served_version=(prediction.version or None) if prediction else None,
        provider=run.provider or None,
        prompt=str(given.get("prompt", "")),
        hf_lora=_text(effective.get("hf_lora")),
        lora_scale=_number(effective.get("lora_scale")),
        aspect_ratio=_text(effective.get("aspect_ratio")),
        num_inference_steps=_whole(effective.get("num_inference_steps")),
        num_outputs=request.outputs,
        seed=seed,
        seed_source=seed_source,
        input=canonical_json(given).decode(),
        input_images=_input_images(request),
        run_id=attempt.intent.run_id if attempt else run.run_id,
        asset=run.asset,
        config_path=source.config_path,
        config_sha256=source.config_sha256,
        code_version=run.code_version,
        status=status,
        error=error,
        format=request.image_format,
        requested_at=datetime.fromtimestamp(attempt.intent_at, UTC) if attempt else None,
        completed_at=prediction.completed_at if prediction else None,
        predict_seconds=prediction.predict_seconds if prediction else None,
        attempts=attempt.number if attempt else 0,
        polls=polls,
        cost_usd=request.cost_usd / request.outputs if attempt else 0.0,
        measured_usd=_measured_share(request, prediction),
    )


def source_of(record: ImageRecord) -> Source:
    """The source of the request that a record belongs to, as ``build_record`` wrote it down."""
    return Source(
        prompt_set=record.prompt_set,
        prompt_name=record.prompt_name,
        take=record.take,
        partition=record.partition,
        config_path=record.config_path,
        config_sha256=record.config_sha256,
    )


def _measured_share(request: Request, prediction: Prediction | None) -> float | None:
    """One image's share of what the prediction came to, where the provider's metrics tell."""
    if prediction is None or not prediction.metrics:
        return None
    outputs = max(len(prediction.outputs), 1)
    usd = measured_usd(request, prediction.metrics, outputs=outputs)
    return None if usd is None else usd / max(outputs, request.outputs)


def _input_images(request: Request) -> str | None:
    """The pictures in the order of the input; one that two inputs name is in it twice."""
    if not request.pictures:
        return None
    known = {picture.reference: picture for picture in request.pictures}
    found: list[JsonValue] = [
        {
            "name": name,
            "sha256": picture.sha256,
            "uri": _shared_address(picture.uri),
            "request_sha256": picture.request_sha256,
        }
        for name, value in request.input.items()
        for each in (value if isinstance(value, list) else [value])
        if isinstance(each, str) and (picture := known.get(each))
    ]
    return rfc8785.dumps(found).decode()


def _shared_address(uri: str) -> str:
    """An address in a store; of a path the name alone, because rows are shared and folders not."""
    return uri if "://" in uri else PurePath(uri).name


def _seed(request: Request, prediction: Prediction | None) -> tuple[int | None, str]:
    if request.seed is not None:
        return request.seed, "request"
    logged = _LOGGED_SEED.search(prediction.logs) if prediction else None
    return (int(logged[1]), "log") if logged else (None, "unknown")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None
