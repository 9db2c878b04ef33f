"""The columns of the lineage table and of what was spent: name, type, meaning and unit of each.

Written without Arrow, so that a code location can describe the tables without loading it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from flux_pipeline.lineage.record import TIMES, ImageRecord


class Column(NamedTuple):
    """One column of a table."""

    name: str
    kind: str
    """The type, as Arrow prints it."""
    description: str
    unit: str = ""
    """Empty where it measures nothing."""


LINEAGE_COLUMNS: Sequence[Column] = (
    Column("image_sha256", "string", "SHA-256 of the coded pixels alone"),
    Column("file_sha256", "string", "SHA-256 of the stored bytes"),
    Column("dhash", "uint64", "64-bit difference hash; a copy differs by at most 6 bits"),
    Column("prediction_id", "string", "the provider's id; row key, with output_index"),
    Column("output_index", "int8", "0-based, from the provider's file name"),
    Column("request_sha256", "string", "fingerprint of version and effective input"),
    Column("prompt_set", "string", "the prompt set's name"),
    Column("prompt_name", "string", "the prompt's name in its set"),
    Column("take", "int32", "1-based; another take is another seed"),
    Column("partition", "string", "Dagster partition; empty where there is none"),
    Column("model", "string", "owner/name"),
    Column("version", "string", "the version asked for"),
    Column("served_version", "string", "the version that the provider says it ran"),
    Column("provider", "string", "the provider's host, or emulator: then no model ran"),
    Column("prompt", "string", "the prompt as sent"),
    Column("hf_lora", "string", "LoRA weights, redacted"),
    Column("lora_scale", "double", "strength of the LoRA, 0 to 1"),
    Column("aspect_ratio", "string", "such as 16:9"),
    Column("num_inference_steps", "int16", "denoising steps"),
    Column("num_outputs", "int8", "images asked for in the same prediction"),
    Column("seed", "int64", "the seed that made it, where known"),
    Column("seed_source", "string", "request, log or unknown"),
    Column("input", "string", "the input that was sent, redacted, as canonical JSON"),
    Column(
        "input_images",
        "string",
        "pictures that went in, as JSON: name of the input, sha256, uri, request_sha256",
    ),
    Column("run_id", "string", "the run that paid, which is not always the run that stored"),
    Column("asset", "string", "Dagster asset key"),
    Column("config_path", "string", "the prompt set's file"),
    Column("config_sha256", "string", "SHA-256 of that file and its tables"),
    Column(
        "code_version",
        "string",
        "git commit of the prompt set's folder, with + where the file was edited",
    ),
    Column("status", "string", "stored, refused, failed or removed"),
    Column("error", "string", "why there is no image; on a stored one, what is doubtful about it"),
    Column("uri", "string", "where the image lies, or a removed one lay"),
    Column("format", "string", "webp, jpg or png"),
    Column("width", "int32", "width", "px"),
    Column("height", "int32", "height", "px"),
    Column("bytes", "int64", "size of the stored file", "bytes"),
    Column(
        "credentials",
        "string",
        "content credentials (C2PA): kept, ours, none or invalid as received",
    ),
    Column(
        "requested_at",
        "timestamp[ms, tz=UTC]",
        "when the intent was written, right before it was sent",
        "UTC, ms",
    ),
    Column("completed_at", "timestamp[ms, tz=UTC]", "when the provider finished", "UTC, ms"),
    Column("stored_at", "timestamp[ms, tz=UTC]", "when the image was stored", "UTC, ms"),
    Column(
        "removed_at", "timestamp[ms, tz=UTC]", "when the image was removed on purpose", "UTC, ms"
    ),
    Column("archived_uri", "string", "where a copy of a removed image lies"),
    Column("predict_seconds", "float", "time of the prediction at the provider", "s"),
    Column("attempts", "int16", "number of the attempt that it came from"),
    Column("polls", "int16", "status requests of this prediction"),
    Column("cost_usd", "double", "estimated share of the prediction's price", "USD"),
    Column(
        "measured_usd",
        "double",
        "that share by the provider's metrics, where they tell; never an invoice",
        "USD",
    ),
)
REQUIRED = frozenset(
    field.name
    for field in dataclasses.fields(ImageRecord)
    if type(None) not in getattr(field.type, "__args__", ())
)
"""The columns of the lineage table that are never null."""
SPEND_COLUMNS: Sequence[Column] = (
    Column("day", "date32[day]", "the day of the request; empty where no time is known", "UTC"),
    Column("prompt_set", "string", "the prompt set's name"),
    Column("model", "string", "owner/name"),
    Column("predictions", "int64", "distinct predictions that the provider accepted"),
    Column("images", "int64", "images stored, also what was removed since"),
    Column("refused", "int64", "images that the provider refused or left out"),
    Column("failed", "int64", "images that were asked for and could not be made or kept"),
    Column("usd", "double", "estimate from the model's price table", "USD"),
    Column(
        "measured_usd",
        "double",
        "by the provider's metrics where they tell, else the estimate",
        "USD",
    ),
    Column("seconds", "double", "time of the predictions at the provider", "s"),
)
SPEND_SOURCES: Mapping[str, Sequence[str]] = {
    "day": list(TIMES),
    "prompt_set": ["prompt_set"],
    "model": ["model"],
    "predictions": ["prediction_id"],
    "images": ["status"],
    "refused": ["status"],
    "failed": ["status", "attempts"],
    "usd": ["cost_usd"],
    "measured_usd": ["measured_usd", "cost_usd"],
    "seconds": ["predict_seconds", "prediction_id"],
}
"""The columns of the lineage table that each column of what was spent comes from."""
