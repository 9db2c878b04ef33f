"""Compares provider, ledger, store and lineage table, and reports where they disagree.

Nothing is written. Runs may be at work meanwhile, so the four are never read at one moment: they
are read in the order store, ledger, provider, lineage, and the store again, which keeps an image or
a prediction that is under way from being reported.
"""

import hashlib
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import anyio

from flux_pipeline.audit.findings import Finding, Kind, Verification
from flux_pipeline.audit.inventory import (
    Inventory,
    InventoryRow,
    is_paid_in_vain,
    load_ledger,
    load_lineage,
)
from flux_pipeline.audit.ownership import MARK, describe_mismatch, describe_older
from flux_pipeline.errors import ImageError, LedgerError, StoreError
from flux_pipeline.images.inspection import inspect_image
from flux_pipeline.iteration import batched, map_ahead
from flux_pipeline.ledger.base import Attempt, Ledger, State
from flux_pipeline.ledger.codec import load_request
from flux_pipeline.ledger.sql import SqlLedger
from flux_pipeline.ledger.uploads import SqlUploads
from flux_pipeline.models.signed_url import comparable_url
from flux_pipeline.outcomes import AccessDenied, ListFailed, NoList
from flux_pipeline.prediction import Prediction, Status
from flux_pipeline.produce.producer import Producer
from flux_pipeline.provider.client import Provider
from flux_pipeline.provider.listing import Match, matches
from flux_pipeline.store.base import IMAGES, Store

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number done and of all."""

REACH_SECONDS = 3900.0
"""How far back the provider's list is compared, s: an hour, after which it shows no inputs, and the
difference that two clocks may have."""
READERS = 8
"""Threads that read objects."""
_MOST_OPEN = 10_000
"""Unfinished attempts that are counted."""
_PAGE = 100
_UNPAID = frozenset({Status.FAILED, Status.CANCELED, Status.ABORTED})
_PAID = frozenset(
    {
        State.ACCEPTED,
        State.SUCCEEDED,
        State.STORED,
        State.PRUNING,
        State.PRUNED,
        State.RESENT,
        State.DUPLICATE,
    }
)
_FORGOTTEN = (
    "the ledger has the request as under way, and all its images are stored and in the lineage;"
    " `flux-pipeline reindex` enters them"
)
_RESTORE = "restore it from a backup of the store"
_RESTORE_OR_ASK = f"{_RESTORE}, or ask for it anew with another seed or take"


def no_progress(_done: int, _total: int) -> None:
    """Show no progress."""


def verify(
    producer: Producer,
    *,
    deep: bool = False,
    progress: Progress = no_progress,
    now: Callable[[], float] = time.time,
) -> Verification:
    """Compare every paid prediction with every stored image; ``deep`` also reads every object.

    Memory grows with the findings alone. ``progress`` is called with the number of objects read
    and of all; ``now`` gives unix seconds.

    Raises:
        StoreError, LedgerError: Where one of them can't be asked at all.
    """
    store, ledger = producer.store, producer.ledger
    with Inventory() as inventory:
        inventory.add_stored(store.list(IMAGES))
        result = Verification(images=inventory.count())
        since = now() - REACH_SECONDS
        result.findings.extend(
            load_ledger(ledger.attempts(), inventory, store_uri=store.uri, listed_since=since)
        )
        _compare_list(producer, inventory, result, now())
        result.findings.extend(load_lineage(store, inventory))
        # An image that was stored while ledger and lineage were read is not missing.
        inventory.add_stored_meanwhile(store.list(IMAGES))
        differences = [*_compare_sides(inventory), *_find_forgotten(ledger, store, inventory)]
        if differences and (mismatch := describe_mismatch(ledger, store)):
            result.notes.append(mismatch)
        result.findings.extend(differences)
        result.notes.extend(_note_open(ledger))
        if deep:
            for done, found in enumerate(check_objects(store, inventory.stored()), 1):
                result.findings.extend(found)
                progress(done, result.images)
    return result


def _note_open(ledger: Ledger) -> Iterator[str]:
    """Say how many predictions are paid and not stored yet, which is no disagreement."""
    is_paid = {State.ACCEPTED, State.SUCCEEDED}
    count = sum(each.state in is_paid for each in ledger.unfinished(limit=_MOST_OPEN))
    if count:
        more = " or more" if count == _MOST_OPEN else ""
        yield (
            f"{count}{more} paid and not stored yet: the next run or `flux-pipeline rescue` fetches"
            " what is there"
        )


def _compare_list(
    producer: Producer, inventory: Inventory, result: Verification, now: float
) -> None:
    uploads = SqlUploads(producer.ledger, producer.account)
    check = ProviderListCheck(producer.ledger, inventory, uploads)

    async def run() -> None:
        async with producer.open_provider() as provider:
            await check.run(provider, now=now)

    anyio.run(run)
    result.findings.extend(check.findings)
    result.notes.extend(check.notes)
    result.complete = check.complete


def _compare_sides(inventory: Inventory) -> Iterator[Finding]:
    """Compare store, ledger and lineage table with each other."""
    for row in inventory.missing():
        message = f"{_recorders(row)} it is stored, and it is not; {_RESTORE_OR_ASK}"
        yield Finding(Kind.LOST, row.key, message)
    for row in inventory.orphaned():
        yield Finding(Kind.ORPHANED, row.key, _missing_record(row))
    for row in inventory.contradictory():
        message = "ledger and lineage have recorded different hashes; `flux-pipeline verify --deep`"
        yield Finding(Kind.WRONG_HASH, row.key, f"{message} says which one is right")


def _find_forgotten(ledger: SqlLedger, store: Store, inventory: Inventory) -> Iterator[Finding]:
    """Look for what an older copy of the ledger, such as a restored backup, has forgotten."""
    if older := describe_older(ledger, store):
        yield Finding(Kind.ORPHANED, MARK, older)
    for shas in batched(inventory.open_and_stored(), _PAGE):
        # Asked again: a run may have ended them while the lineage was read.
        for sha, attempt in ledger.find(shas).items():
            if attempt.state.is_open:
                yield Finding(Kind.ORPHANED, sha, _FORGOTTEN)


def _recorders(row: InventoryRow) -> str:
    if row.ledger_file is None:
        return "the lineage says that"
    return "the ledger says that" if row.lineage_file is None else "ledger and lineage say that"


def _missing_record(row: InventoryRow) -> str:
    if row.ledger_file is None and row.removed:
        return "it was removed on purpose, and lies there again; `flux-pipeline reindex` enters it"
    if row.ledger_file is None and row.lineage_file is None:
        return "neither ledger nor lineage knows it; `flux-pipeline reindex` enters it in both"
    if row.ledger_file is None:
        return "the ledger doesn't know it; `flux-pipeline reindex` enters it"
    if row.recorded:
        return "its lineage row is gone; `flux-pipeline reindex` writes it again"
    return (
        "it has no lineage row yet; a run under way writes it at its end, otherwise"
        " `flux-pipeline rescue` does"
    )


@dataclass(slots=True)
class ProviderListCheck:
    """Compares the provider's list with the ledger, page by page as it is read."""

    ledger: Ledger
    inventory: Inventory
    """Loaded from the ledger, with the recent requests."""
    uploads: SqlUploads
    """Where the pictures of requests were sent."""
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    complete: bool = True
    _strangers: int = 0
    """Paid predictions that fit no request of the ledger."""

    async def run(self, provider: Provider, *, now: float) -> None:
        """Read as far back as the list still shows inputs; ``now`` is unix seconds."""
        page: list[Prediction] = []
        async for each in provider.recent():
            if not isinstance(each, Prediction):
                self._note_failure(each)
                break
            if each.created_at and each.created_at.timestamp() < now - REACH_SECONDS:
                break
            page.append(each)
            if len(page) == _PAGE:
                self._compare(page)
                page = []
        self._compare(page)
        if self._strangers:
            self.notes.append(
                f"{self._strangers} predictions in the provider's list are of no request in this"
                " ledger: somebody else uses the key, or the ledger is not the one it was"
            )

    def _note_failure(self, failure: AccessDenied | ListFailed | NoList) -> None:
        if isinstance(failure, NoList):
            self.notes.append("the provider has no list: what it accepted can't be compared")
            return
        why = failure.detail if isinstance(failure, AccessDenied) else failure.reason
        self.complete = False
        self.notes.append(f"the provider's list could not be read: {why}; verify again")

    def _compare(self, page: Sequence[Prediction]) -> None:
        known = self.ledger.known_ids([each.id for each in page if each.id])
        for prediction in page:
            if prediction.id not in known and prediction.status not in _UNPAID:
                self._report_unknown(prediction)

    def _report_unknown(self, prediction: Prediction) -> None:
        histories = [
            history
            for sha in self._candidates(prediction)
            if (history := self.ledger.history(sha))
            and _is_of(prediction, history[-1], self.uploads)
        ]
        if not histories:
            self._strangers += 1
            return
        # A reproduction has its original's input: the one that waits for an answer is meant.
        history = max(histories, key=_waits)
        if (finding := check_unknown(prediction.id or "", history)) is not None:
            self.findings.append(finding)

    def _candidates(self, prediction: Prediction) -> Sequence[str]:
        return self.inventory.requests(prediction.input)


def check_unknown(prediction_id: str, history: Sequence[Attempt]) -> Finding | None:
    """Find what is wrong with a paid prediction that the ledger lacks, by its request's history.

    None while an attempt is open without an id: the answer to its create may be on the way.
    """
    states = {attempt.state for attempt in history}
    sha = history[-1].request_sha256
    adopt = f"`{adopt_command(sha, prediction_id)}`"
    if State.INTENT in states:
        return None
    if State.HELD in states:
        message = f"the provider's list shows prediction {prediction_id} with its input; {adopt}"
        return Finding(Kind.HELD, sha, message)
    if states & _PAID or any(map(is_paid_in_vain, history)):
        message = f"accepted besides another prediction of the same request; {adopt} notes it"
        return Finding(Kind.PAID_TWICE, prediction_id, message)
    message = f"accepted, and the ledger says that its request never was; {adopt} fetches it"
    return Finding(Kind.LOST, prediction_id, message)


def adopt_command(request: str, prediction_id: str) -> str:
    """The command that notes a prediction as a request's, as it can be pasted into a shell."""
    end_of_options = ["--"] * prediction_id.startswith("-")
    return shlex.join(["flux-pipeline", "held", "adopt", *end_of_options, request, prediction_id])


def _waits(history: Sequence[Attempt]) -> bool:
    return any(attempt.state in {State.INTENT, State.HELD} for attempt in history)


def _is_of(prediction: Prediction, attempt: Attempt, uploads: SqlUploads) -> bool:
    try:
        return match_of(prediction, attempt, uploads) in {Match.OURS, Match.OTHER_VERSION}
    except LedgerError:
        return False


def match_of(prediction: Prediction, attempt: Attempt, uploads: SqlUploads) -> Match:
    """Compare a prediction, as the provider shows it, with the request of an attempt.

    ``uploads`` gives the addresses under which its pictures were sent.

    Raises:
        LedgerError: Where the request can't be read in the ledger.
    """
    shown = {"model": prediction.model, "version": prediction.version, "input": prediction.input}
    request = load_request(attempt.intent.request_json)
    sha256s = {picture.sha256 for picture in request.pictures}
    found = uploads.addresses(sha256s) if sha256s else {}
    sent_as = {sha256: {"data:", *map(comparable_url, found.get(sha256, ()))} for sha256 in sha256s}
    return matches(shown, request, sent_as)


def check_objects(store: Store, stored: Iterable[InventoryRow]) -> Iterator[list[Finding]]:
    """Read and decode each object, and yield the list of its findings, in the order of ``stored``.

    A few objects are held in memory at once.
    """
    return map_ahead(lambda row: list(_check_object(store, row)), stored, threads=READERS)


def _check_object(store: Store, row: InventoryRow) -> Iterator[Finding]:
    try:
        body = store.get(row.key)
    except StoreError as error:
        # An object that was deleted since the listing is not unreadable.
        if store.head(row.key) is not None:
            yield Finding(Kind.UNREADABLE, row.key, f"{error}; {_RESTORE}")
        return
    recorded = {"the ledger": row.ledger_file, "the lineage": row.lineage_file}
    wrong = _differing(hashlib.sha256(body).hexdigest(), "bytes", recorded, store, row.key)
    try:
        image_format = row.key.rpartition(".")[2]
        seen = inspect_image(body, image_format=image_format, width=0, height=0)
        recorded = {"the ledger": row.ledger_pixels, "the lineage": row.lineage_pixels}
        wrong += _differing(seen.image_sha256, "pixels", recorded, store, row.key)
    except ImageError as error:
        yield Finding(Kind.UNREADABLE, row.key, f"{error}; {_RESTORE}")
    if wrong:
        yield Finding(Kind.WRONG_HASH, row.key, f"{', '.join(wrong)}; {_RESTORE}")


def _differing(
    found: str, content: str, recorded: Mapping[str, str | None], store: Store, key: str
) -> list[str]:
    """Say which records have another hash of the content (``bytes`` or ``pixels``) than was found.

    An object of which nothing is recorded is compared with its own metadata.
    """
    if not any(recorded.values()):
        name = "file-sha256" if content == "bytes" else "image-sha256"
        stored = store.head(key)
        recorded = {"its metadata": stored.metadata.get(name) if stored else None}
    return [
        f"other {content} than {recorder} says"
        for recorder, sha in recorded.items()
        if sha not in {None, "", found}
    ]
