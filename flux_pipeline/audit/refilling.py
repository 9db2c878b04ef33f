"""A record back to the request that was sent, whole: with the secrets that no record holds."""

import json
from collections.abc import Callable
from dataclasses import replace

from pydantic import ValidationError

from flux_pipeline.errors import ConfigError, Problem
from flux_pipeline.lineage.record import ImageRecord
from flux_pipeline.models import build_request, find_model
from flux_pipeline.prompts import PromptSet
from flux_pipeline.redaction import REDACTED
from flux_pipeline.request import Request, Source


def full_request(
    record: ImageRecord, load_set: Callable[[str], PromptSet]
) -> tuple[Request, tuple[str, ...]]:
    """The request that a record is of, and what is doubtful about sending it again.

    A seed that the provider drew is sent, if its log told it. Where the record's input was
    redacted, the prompt set must still make the same request, by its fingerprint.

    Raises:
        ConfigError: It does not, or the model is not known any more; says what to do.
    """
    request = _from_record(record)
    if request is None or _is_redacted(record, request):
        request = _from_set(record, load_set)
    if request.seed is not None:
        return request, ()
    if record.seed is None:
        return request, ("no seed is known: the provider draws one, so expect another image",)
    seeded = replace(request, input={**request.input, "seed": record.seed})
    return seeded, ("the provider drew the seed: it is taken from its log",)


def _from_record(record: ImageRecord) -> Request | None:
    """The request as it was recorded; None where what was recorded is no input any more."""
    try:
        model = find_model(record.model)
    except KeyError as error:
        message = f"{record.model}: {error.args[0]}; use the release that made it"
        raise _problem(record, "model", message) from None
    try:
        values = model.input_type.model_validate(json.loads(record.input))
    except (ValidationError, ValueError) as error:
        if REDACTED in record.input:
            return None
        count = error.error_count() if isinstance(error, ValidationError) else 1
        message = f"the recorded input has {count} values that the model refuses"
        raise _problem(record, "input", message) from None
    source = Source(
        prompt_set=record.prompt_set,
        prompt_name=record.prompt_name,
        take=record.take,
        partition=record.partition,
        config_path=record.config_path,
        config_sha256=record.config_sha256,
    )
    built = build_request(model, values, source, version=record.version)
    if REDACTED in record.input and built.request_sha256 != record.request_sha256:
        return None  # more than an address was redacted, such as a part of the prompt
    return replace(built, request_sha256=record.request_sha256)


def _is_redacted(record: ImageRecord, request: Request) -> bool:
    """Whether an address lacks its secret; the rest is proven whole by the fingerprint."""
    fields = find_model(record.model).input_type.address_fields
    return any(REDACTED in str(request.input.get(name, "")) for name in fields)


def _from_set(record: ImageRecord, load_set: Callable[[str], PromptSet]) -> Request:
    """The same request as the prompt set makes it today, secrets and all."""
    prompt_set = load_set(record.prompt_set)
    for request in prompt_set.requests([record.partition] if record.partition else None):
        if request.request_sha256 == record.request_sha256:
            return request
    message = (
        "was recorded without its secret, such as a token in an address, and"
        f" {prompt_set.path or prompt_set.name} does not make this request any more: put it back as"
        f" it was (its SHA-256 was {record.config_sha256[:12] or 'not recorded'}), with the secret"
    )
    raise _problem(record, "input", message)


def _problem(record: ImageRecord, key: str, message: str) -> ConfigError:
    place = record.config_path or record.prompt_set
    return ConfigError([Problem(place, 0, f"prompts.{record.prompt_name}.{key}", message)])
