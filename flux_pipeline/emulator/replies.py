"""JSON replies of the API: predictions, their outputs, and errors in each of its shapes."""

import base64
import hashlib
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field as member
from datetime import UTC, datetime
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Literal

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from flux_pipeline.emulator import files
from flux_pipeline.emulator.contracts import DEFAULT_MODEL
from flux_pipeline.emulator.edits import Result
from flux_pipeline.emulator.emulator import Emulator
from flux_pipeline.emulator.inputs import InvalidField, ModelInput
from flux_pipeline.emulator.jobs import Job
from flux_pipeline.emulator.lifecycle import Moment
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.pictures import CONTENT_TYPES, Picture
from flux_pipeline.emulator.records import Record

ErrorShape = Literal["problem", "cog", "object"]
Hint = Literal["all", "header", "date", "body", "detail", "reset", "none"]


Output = str | list[str] | dict[str, str] | list[dict[str, str]]
"""URLs or data URIs, in the form that the model's contract gives."""


def prediction(
    record: Record, moment: Moment, output: Output | None, trap_origin: str
) -> dict[str, Any]:
    """The prediction object."""
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
        name = "image_count" if record.job is None else "image_output_count"
        metrics[name] = len(moment.outputs)
    return metrics


def _logs(record: Record, moment: Moment) -> str:
    if moment.status == "starting" or moment.started_at is None:
        return ""
    draws_seed = record.typed_input.seed is None and (record.job is None or record.job.has_seed)
    lines = [f"Using seed: {record.plan.seed}"] if draws_seed else []
    steps = record.typed_input.num_inference_steps
    lines.append(f"  0%|          | 0/{steps} [00:00<?, ?it/s]")
    if moment.status == "succeeded":
        lines.append(f"100%|██████████| {steps}/{steps} [00:00<00:00, 11.20it/s]")
        lines += [f"NSFW content detected in image {index}" for index in record.plan.refused]
    if moment.status == "failed":
        lines.append(f"Traceback (most recent call last):\n{moment.error or 'worker lost'}")
    return "\n".join(lines) + "\n"


def file_name(record: Record, index: int) -> str:
    """Such as ``out-3.webp``: the batch number stays, whatever was left out before it."""
    ending = record.typed_input.output_format if record.job is None else record.job.ending
    return f"out-{index}.{ending}"


def output_origin(request: Request, emulator: Emulator, record: Record) -> str:
    """The origin of a prediction's output URLs: what the client asked, or the configured one."""
    if emulator.lasting_fault("output", record.typed_input.prompt, since=record.plan.ends_at):
        return emulator.faults.other_origin
    return emulator.options.output_origin or origin_of(request)


def origin_of(request: Request) -> str:
    """The origin that the client asked, such as ``http://127.0.0.1:8900``."""
    return f"{request.scope['scheme']}://{request.headers.get('host', '')}"


def output_url(origin: str, options: EmulatorOptions, record: Record, index: int) -> str:
    """The URL of one image."""
    url = f"{origin}/output/{record.id}/{file_name(record, index)}"
    if not options.signed_outputs:
        return url
    return f"{url}?X-Signature={hashlib.sha256(url.encode()).hexdigest()}"


async def image_bytes(
    emulator: Emulator, record: Record, index: int, size: tuple[int, int] | None = None
) -> bytes:
    """The file of one image; drawn in a thread, since encoding takes tens of milliseconds."""
    if not isinstance(record.typed_input, ModelInput):
        return await _result_bytes(emulator, record, record.typed_input, index, size)
    picture = Picture(record.version, record.typed_input, record.plan.seed, index)
    if emulator.options.render == "cheap":
        return emulator.finish(picture.file(cheap=True, size=size))
    return await to_thread.run_sync(lambda: emulator.finish(picture.file(cheap=False, size=size)))


async def _result_bytes(
    emulator: Emulator, record: Record, job: Job, index: int, size: tuple[int, int] | None
) -> bytes:
    """The file of one image of a model with a contract, made from the pictures that went in."""
    with emulator.state.reading() as connection:
        sources = tuple(files.fetched_by(connection, record.id)) if job.pictures else ()
        result = Result(job, record.plan.seed, index, sources)
        if emulator.options.render == "cheap":
            return emulator.finish(result.cheap_file(size))
        contents = [files.content_of(connection, source.sha256) for source in sources]
    return await to_thread.run_sync(lambda: emulator.finish(result.file(contents, size)))


async def data_uri(emulator: Emulator, record: Record, index: int) -> str:
    """One image as a data URI."""
    kind = CONTENT_TYPES[record.typed_input.output_format]
    return f"data:{kind};base64,{await base64_image(emulator, record, index)}"


async def base64_image(emulator: Emulator, record: Record, index: int) -> str:
    """One image in base64."""
    return base64.b64encode(await image_bytes(emulator, record, index)).decode("ascii")


async def output_value(
    emulator: Emulator, request: Request, record: Record, indexes: Sequence[int]
) -> Output | None:
    """``output`` in the form of the contract, or else the configured one."""
    shape = emulator.options.output_shape
    if shape == "data_uri":
        urls = [await data_uri(emulator, record, index) for index in indexes]
    else:
        origin = output_origin(request, emulator, record)
        urls = [output_url(origin, emulator.options, record, index) for index in indexes]
    job = record.job
    match "uris" if job is None else job.kind:
        case "uri":
            return urls[0] if urls else None
        case "object":
            named = zip(indexes, urls, strict=True)
            return {job.keys[index]: url for index, url in named} if job else None
        case "objects":
            return [dict.fromkeys(job.keys, url) for url in urls] if job else None
        case _:
            return urls[0] if shape == "string" and len(urls) == 1 else urls


@dataclass(eq=False)
class Refusal(Exception):
    """An error reply, raised by handlers; nothing was created."""

    status: int
    title: str
    detail: str
    fields: tuple[InvalidField, ...] = ()
    more: dict[str, Any] = member(default_factory=dict)
    """Further members of the body."""
    headers: dict[str, str] = member(default_factory=dict)

    def response(self, shape: ErrorShape) -> Response:
        """The HTTP answer in one of the three shapes."""
        if shape == "object":
            body = error_object(self)
        elif shape == "cog":
            body = {"detail": self._details()}
        else:
            body = {"title": self.title, "detail": self.detail, "status": self.status}
            if self.fields:
                body["invalid_fields"] = [
                    {"type": field.kind, "field": field.field, "description": field.description}
                    for field in self.fields
                ]
        return json_response(body | self.more, self.status, self.headers)

    def _details(self) -> list[dict[str, Any]] | str:
        if not self.fields:
            return self.detail
        return [
            {
                "loc": ["body", *field.field.split(".")],
                "msg": field.description,
                "type": field.kind,
            }
            for field in self.fields
        ]


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON reply; lone surrogates of a prompt are escaped rather than refused."""
    return Response(json.dumps(body), status, headers, "application/json")


def error_object(refusal: Refusal) -> dict[str, Any]:
    """The aggregator's form of an error, which also comes under HTTP 200."""
    return {
        "error": {
            "message": refusal.detail,
            "type": refusal.title,
            "param": refusal.fields[0].field if refusal.fields else None,
            "code": str(refusal.status),
        }
    }


def unauthenticated() -> Refusal:
    """401: no key, or one that is not accepted."""
    detail = "You did not pass a valid authentication token"
    headers = {"WWW-Authenticate": "Bearer"}
    return Refusal(401, "Unauthenticated", detail, headers=headers)


def out_of_credit() -> Refusal:
    """402: the next prediction would cost more than is left."""
    detail = "You have insufficient credit to run this model. Go to billing to purchase credit."
    return Refusal(402, "Insufficient credit", detail)


def not_found() -> Refusal:
    """404: no such prediction, file or path."""
    return Refusal(404, "Not found", "The requested resource could not be found.")


def forbidden() -> Refusal:
    """403: the file is not for this one."""
    return Refusal(403, "Forbidden", "Access denied.")


def channel_refused() -> Refusal:
    """400: the aggregator's upstream channel doesn't want this request."""
    return Refusal(400, "invalid_request_error", "The channel refused this request.")


def not_cancelable() -> Refusal:
    """422: the prediction has already ended."""
    return Refusal(422, "Not cancelable", "The prediction has already ended.")


def too_large(most: int) -> Refusal:
    """413: an uploaded file is larger than ``most`` bytes."""
    detail = f"Files must be less than {most // 1_000_000}MB in size"
    return Refusal(413, "Content too large", detail)


def refused_upload() -> Refusal:
    """400: the file is not taken."""
    return Refusal(400, "Upload refused", "The file can't be stored.")


def rejected(status: int) -> Refusal:
    """400, 404, 405, 413 or 415 to a whole create, as a wrong address or a proxy answers it."""
    title = HTTPStatus(status).phrase
    return Refusal(status, title, f"{title}: the call is not served here.")


def malformed(detail: str) -> Refusal:
    """400: the request is no JSON object, or a header or query value can't be read."""
    return Refusal(400, "Bad request", detail)


def invalid(fields: tuple[InvalidField, ...]) -> Refusal:
    """422: every value out of range, at once."""
    detail = "".join(f"- {field.field}: {field.description}\n" for field in fields)
    return Refusal(422, "Input validation failed", detail, fields)


def throttled(wait_seconds: float, hint: Hint, now: float) -> Refusal:
    """429, with the time to wait in the place that ``hint`` names; ``now`` dates the HTTP date."""
    seconds = max(1, math.ceil(wait_seconds))
    detail = "Request was throttled."
    more: dict[str, Any] = {}
    headers: dict[str, str] = {}
    if hint in ("all", "detail"):
        detail += f" Your rate limit resets in ~{seconds}s."
    if hint in ("all", "body"):
        more["retry_after"] = seconds
    if hint in ("all", "header"):
        headers["Retry-After"] = str(seconds)
    if hint == "date":
        headers["Retry-After"] = formatdate(now + seconds, usegmt=True)
    if hint in ("all", "reset"):
        headers["ratelimit-reset"] = str(seconds)
    return Refusal(429, "Too many requests", detail, more=more, headers=headers)
