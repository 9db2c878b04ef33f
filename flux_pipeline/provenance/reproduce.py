"""Makes an image again: sends its request once more, and compares the result with the original.

A reproduction is paid for. It is a request of its own in ledger, store and lineage table (see
``again``), so the original stays untouched. Its report is written last: as long as there is none,
reproducing again resumes the same take by id, and pays nothing twice.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum

import rfc8785
from pydantic import ValidationError

from flux_pipeline.audit.reindex import enter_stored
from flux_pipeline.errors import ConfigError, LedgerError, Problem
from flux_pipeline.lineage.query import SAME_IMAGE, Snapshot, find_exact, hamming_distance
from flux_pipeline.lineage.record import (
    WAS_STORED,
    ImageRecord,
    ImageStatus,
    original_request,
    reproduction_partition,
)
from flux_pipeline.models import BUILT_IN, Catalog, Model, build_request
from flux_pipeline.produce.budgets import Limits
from flux_pipeline.produce.policy import RunContext, final_status
from flux_pipeline.produce.producer import Producer
from flux_pipeline.produce.records import source_of
from flux_pipeline.produce.report import Result, ResultStatus
from flux_pipeline.produce.source_pictures import stored_pictures
from flux_pipeline.prompts import PromptSet
from flux_pipeline.provenance.sources import find_source, named_pictures
from flux_pipeline.redaction import REDACTED
from flux_pipeline.request import Request
from flux_pipeline.store.base import Store

_REPORTS = "reproductions"


class Verdict(StrEnum):
    """How a reproduced image relates to its original, worst last."""

    IDENTICAL = "identical"
    """The coded pixels are the same, bit for bit."""
    SIMILAR = "similar"
    """It looks the same: the difference hashes are at most 6 of 64 bits apart."""
    DIFFERENT = "different"
    """It looks otherwise."""
    FAILED = "failed"
    """There is no image."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One original image and its reproduction."""

    output_index: int
    verdict: Verdict
    distance: int | None
    """Bits of 64 in which the looks differ; None where one of them has no hash."""
    original_uri: str | None
    uri: str | None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A reproduction that could be made; nothing has been sent."""

    originals: tuple[ImageRecord, ...]
    """The stored images of one prediction, by output index."""
    missing: tuple[ImageRecord, ...]
    """Images that the prediction was asked for and did not give."""
    request: Request
    """Holds the whole input, secrets too: for sending and nothing else."""
    others: frozenset[str] = frozenset()
    """Every known prediction of the same input."""
    doubts: tuple[str, ...] = ()

    @property
    def original(self) -> str:
        """The original's request."""
        return self.originals[0].request_sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """The outcome of a reproduction."""

    original: str
    """The original's request."""
    original_prediction: str | None
    request: str
    """The reproduction's request."""
    take: int
    run_id: str
    prediction: str | None
    created: int
    """Predictions paid for now: 0 where one that was begun earlier was resumed."""
    usd: float
    """Paid now, estimated."""
    finished: bool
    """Whether this take is over: False where asking again goes on with it."""
    verdict: Verdict
    images: tuple[Comparison, ...]
    notes: tuple[str, ...] = field(default=())


def plan_reproduction(
    snapshot: Snapshot,
    store: Store,
    record: ImageRecord,
    load_set: Callable[[str], PromptSet],
    catalog: Catalog = BUILT_IN,
) -> Plan:
    """Plan the reproduction of an image; ``load_set`` loads a prompt set by its name.

    For an image that is a reproduction itself, its original is planned. ``catalog`` has the models
    of the project.

    Raises:
        ConfigError: Secrets are missing, and the prompt set does not give them.
        LedgerError: The table holds no image to compare with.
        StoreError: The store can't be listed.
    """
    sha = original_request(record) or record.request_sha256
    rows = find_exact(snapshot, "request_sha256", sha, limit=None)
    prediction = record.prediction_id if sha == record.request_sha256 else None
    originals, missing = _originals(sha, rows, prediction)
    repeated = find_exact(snapshot, "partition", reproduction_partition(sha), limit=None)
    request, doubts = full_request(originals[0], load_set, snapshot, catalog)
    take = 1 + max(_takes(store, sha), default=0)
    return Plan(
        originals=originals,
        missing=missing,
        request=again(request, take),
        others=frozenset(row.prediction_id for row in [*rows, *repeated] if row.prediction_id),
        doubts=doubts,
    )


def reproduce(
    producer: Producer, plan: Plan, *, run_id: str, limits: Limits | None = None
) -> Reproduction:
    """Send the request, wait, store, record and compare; call ``write_report`` afterwards.

    Where it can't be proven whether the provider accepted the request, it is held and never sent
    again.

    Raises:
        FluxPipelineError: Where ledger or store fail; what was accepted is resumed by the next try.
    """
    _enter_original(producer, plan)
    holding = replace(
        producer, policy=replace(producer.policy, unknown="hold"), not_ours=plan.others
    )
    source = plan.request.source
    run = RunContext(
        run_id, f"{source.prompt_set}/images", code_version=plan.originals[0].code_version
    )
    work = [(source.partition, [plan.request])]
    with holding.stream(work, run=run, limits=limits, asked=1) as reports:
        (result,) = [result for report in reports for result in report.results]
    latest = producer.ledger.find([plan.request.request_sha256])
    ended = [final_status(attempt, holding.policy) for attempt in latest.values()]
    finished = any(status not in {None, ResultStatus.HELD} for status in ended)
    return _outcome(plan, result, run_id, finished=finished)


def write_report(store: Store, done: Reproduction) -> None:
    """Store the report of a finished take; without it the next reproduction resumes this take.

    Raises:
        StoreError: Then asking again compares again, and pays nothing.
    """
    if done.finished:
        store.put(
            f"{_REPORTS}/{done.original}/{done.take}.json",
            json.dumps(as_json(done), indent=1).encode(),
            content_type="application/json",
        )


def as_json(done: Reproduction) -> Mapping[str, object]:
    """The report as it is printed and stored."""
    return asdict(done) | {"usd": round(done.usd, 6)}


def _originals(
    request_sha256: str, rows: Sequence[ImageRecord], prediction: str | None
) -> tuple[tuple[ImageRecord, ...], tuple[ImageRecord, ...]]:
    """The stored images of the prediction, and the rows of images that it lacks."""
    stored = [
        row for row in rows if row.status in WAS_STORED and prediction in {None, row.prediction_id}
    ]
    if not stored:
        raise LedgerError(
            f"request {request_sha256}: the lineage table has no stored image of it, so there is"
            " nothing to make again and compare with; `flux-pipeline run` makes what is missing"
        )
    there = {
        row.output_index: row for row in stored if row.prediction_id == stored[0].prediction_id
    }
    missing = {row.output_index: row for row in rows if row.output_index not in there}
    return tuple(there[index] for index in sorted(there)), tuple(missing.values())


def full_request(
    record: ImageRecord,
    load_set: Callable[[str], PromptSet],
    snapshot: Snapshot,
    catalog: Catalog = BUILT_IN,
) -> tuple[Request, tuple[str, ...]]:
    """Rebuild the request of a record with its secrets, and list doubts about sending it again.

    A seed that the provider drew is sent, if its log showed it. Where the record's input was
    redacted, or names a picture that only the prompt set knows, that must still make the request
    with the same fingerprint. A request of a model that is no longer known is sent as it was
    recorded.

    Raises:
        ConfigError: It can't be rebuilt; says what to do.
    """
    model = _known_model(record, catalog)
    doubts: list[str] = []
    if model is None:
        request = _as_recorded(record)
        doubts.append(
            f"the model {record.model} is not known here any more: its input is sent as it was"
            " recorded, and nothing checks it"
        )
    else:
        request = _from_record(record, model)
        if request is not None and model.recorded_defaults and model.takes_seed:
            doubts += _drift_doubts(record, request)
    if request is not None:
        request = _with_pictures(request, snapshot)
    if request is None or _is_redacted(record, request, model):
        request = _from_set(record, load_set)
    return _with_seed(record, replace(request, request_sha256=record.request_sha256), doubts)


def _with_seed(
    record: ImageRecord, request: Request, doubts: list[str]
) -> tuple[Request, tuple[str, ...]]:
    if request.seed is not None:
        return request, tuple(doubts)
    if not request.seed_input:
        return request, (*doubts, "the model takes no seed: expect another image")
    if record.seed is None:
        unknown = "no seed is known: the provider draws one, so expect another image"
        return request, (*doubts, unknown)
    seeded = replace(request, input={**request.input, request.seed_input: record.seed})
    return seeded, (*doubts, "the provider drew the seed: it is taken from its log")


def _known_model(record: ImageRecord, catalog: Catalog) -> Model | None:
    try:
        return catalog.find(record.model)
    except KeyError:
        return None


def _as_recorded(record: ImageRecord) -> Request | None:
    """The request of a model that is not known any more; None where its input was redacted."""
    if REDACTED in record.input:
        return None
    try:
        sent = json.loads(record.input)
    except ValueError:
        sent = None
    if not isinstance(sent, dict):
        raise _problem(record, "input", "was not recorded in a readable form")
    of_seed = [name for name, value in sent.items() if "seed" in name and value == record.seed]
    return Request(
        model=record.model,
        version=record.version,
        input=sent,
        request_sha256=record.request_sha256,
        outputs=record.num_outputs,
        width=0,
        height=0,
        image_format="",
        cost_usd=record.cost_usd * record.num_outputs,
        source=source_of(record),
        seed_input=of_seed[0] if of_seed else "",
    )


def _from_record(record: ImageRecord, model: Model) -> Request | None:
    """The request as it was recorded; None where its input was redacted beyond an address."""
    try:
        values = model.validate(json.loads(record.input))
    except (ValidationError, ValueError) as error:
        if REDACTED in record.input:
            return None
        count = error.error_count() if isinstance(error, ValidationError) else 1
        message = f"the recorded input has {count} values that the model refuses"
        raise _problem(record, "input", message) from None
    built = build_request(model, values, source_of(record), version=record.version)
    if REDACTED in record.input and built.request_sha256 != record.request_sha256:
        return None  # more than an address was redacted, such as a part of the prompt
    return built


def _drift_doubts(record: ImageRecord, built: Request) -> Sequence[str]:
    """Whether the model's contract gives another fingerprint today: other defaults, then."""
    if built.request_sha256 == record.request_sha256 or REDACTED in record.input:
        return ()
    return ("the model's contract has changed since, perhaps its defaults: expect another image",)


def _with_pictures(request: Request, snapshot: Snapshot) -> Request | None:
    """The request with the pictures that its input names; None where one is not in the table."""
    wanted = dict.fromkeys(sha for _, sha in named_pictures(json.dumps(dict(request.input))))
    rows = [find_source(snapshot, sha256) for sha256 in wanted]
    pictures = list(stored_pictures([row for row in rows if row is not None]))
    if len(pictures) < len(wanted):
        return None
    return replace(request, pictures=tuple(pictures))


def _is_redacted(record: ImageRecord, request: Request, model: Model | None) -> bool:
    """Whether a URL of the input lacks its secret; the fingerprint proves the rest."""
    fields = request.input.keys() if model is None else model.address_fields
    return REDACTED in record.input and any(
        REDACTED in str(request.input.get(name, "")) for name in fields
    )


def _from_set(record: ImageRecord, load_set: Callable[[str], PromptSet]) -> Request:
    """The same request as the prompt set makes it today, with its secrets."""
    prompt_set = load_set(record.prompt_set)
    for request in prompt_set.requests([record.partition] if record.partition else None):
        if request.request_sha256 == record.request_sha256:
            return request
    message = (
        "was recorded without its secret or names a picture's file, and"
        f" {prompt_set.path or prompt_set.name} does not make this request any more: put it back as"
        f" it was (its SHA-256 was {record.config_sha256[:12] or 'not recorded'}), with its secrets"
        " and files"
    )
    raise _problem(record, "input", message)


def _problem(record: ImageRecord, key: str, message: str) -> ConfigError:
    place = record.config_path or record.prompt_set
    return ConfigError([Problem(place, 0, f"prompts.{record.prompt_name}.{key}", message)])


def _takes(store: Store, original: str) -> Iterable[int]:
    for key in store.list(f"{_REPORTS}/{original}/"):
        name = key.rpartition("/")[2].removesuffix(".json")
        if name.isascii() and name.isdigit():
            yield int(name)


def again(request: Request, take: int) -> Request:
    """The request of the ``take``-th reproduction (1-based) of a request.

    It has the original's input and model, and a fingerprint made of the original's and the take, so
    that runs and rescues resume it like any request. Its source marks it: the partition holds the
    original's fingerprint, the prompt's name ends in ``(reproduction)``, and the take is the
    reproduction's.
    """
    original = request.request_sha256
    slot = rfc8785.dumps({"reproduction_of": original, "take": take})
    return replace(
        request,
        request_sha256=hashlib.sha256(slot).hexdigest(),
        source=replace(
            request.source,
            prompt_name=f"{request.source.prompt_name} (reproduction)",
            take=take,
            partition=reproduction_partition(original),
            stable_name="",
        ),
    )


def _enter_original(producer: Producer, plan: Plan) -> None:
    """Enter the original's prediction in the ledger, if it is missing there."""
    # A lost answer is looked for in the provider's list by its input, and the original has the very
    # same input. A prediction that the ledger knows is never taken for the lost one, neither by
    # this run nor by a later rescue.
    first = plan.originals[0]
    if first.prediction_id is None or producer.ledger.known_ids([first.prediction_id]):
        return
    with producer.ledger.transaction() as ledger:
        enter_stored(ledger, [*plan.originals, *plan.missing], holder="reproduce")
        ledger.mark_recorded([first.request_sha256])


def _outcome(plan: Plan, result: Result, run_id: str, *, finished: bool) -> Reproduction:
    came = {row.output_index: row for row in result.records}
    images = tuple(
        _compare(original, came.get(original.output_index), result.reason)
        for original in plan.originals
    )
    notes = [*plan.doubts, *result.notices]
    if result.status is ResultStatus.UNCHANGED:
        notes.append("it had been made already by an earlier try, and is compared only now")
    order = list(Verdict)
    return Reproduction(
        original=plan.original,
        original_prediction=plan.originals[0].prediction_id,
        request=plan.request.request_sha256,
        take=plan.request.source.take,
        run_id=run_id,
        prediction=_prediction_id(result.records),
        created=result.created,
        usd=result.usd,
        finished=finished,
        verdict=max((image.verdict for image in images), key=order.index),
        images=images,
        notes=tuple(notes),
    )


def _compare(original: ImageRecord, made: ImageRecord | None, reason: str) -> Comparison:
    bits = None
    verdict, why = Verdict.FAILED, reason
    if made is None or made.status is not ImageStatus.STORED:
        why = (made.error if made else None) or reason or "it did not come"
    else:
        why = made.error or ""
        if original.dhash is not None and made.dhash is not None:
            bits = hamming_distance(original.dhash, made.dhash)
        verdict = Verdict.SIMILAR if bits is not None and bits <= SAME_IMAGE else Verdict.DIFFERENT
        if made.image_sha256 is not None and made.image_sha256 == original.image_sha256:
            verdict, bits = Verdict.IDENTICAL, 0
    return Comparison(
        output_index=original.output_index,
        verdict=verdict,
        distance=bits,
        original_uri=original.uri,
        uri=made.uri if made else None,
        reason=why,
    )


def _prediction_id(records: Sequence[ImageRecord]) -> str | None:
    return next((row.prediction_id for row in records if row.prediction_id), None)
