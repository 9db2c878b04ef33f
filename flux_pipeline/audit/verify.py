"""Provider, ledger, store and lineage table, held against each other.

Nothing is written. While runs are at work the four are never at one moment; the order of reading
(store, ledger, provider, lineage, and the store again) lets what is under way pass for what it is.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import anyio

from flux_pipeline.audit.findings import Finding, Kind, Verification
from flux_pipeline.audit.inventory import (
    IMAGES,
    Inventory,
    InventoryRow,
    is_paid_in_vain,
    survey_ledger,
    survey_lineage,
)
from flux_pipeline.audit.ownership import noted_elsewhere
from flux_pipeline.errors import ImageError, LedgerError, StoreError
from flux_pipeline.images.inspection import inspect_image
from flux_pipeline.iteration import map_ahead
from flux_pipeline.ledger.base import Attempt, Ledger, State
from flux_pipeline.ledger.codec import load_request
from flux_pipeline.outcomes import AccessDenied, ListFailed, NoList
from flux_pipeline.prediction import Prediction, Status
from flux_pipeline.produce.producer import Producer
from flux_pipeline.provider.client import Provider
from flux_pipeline.provider.listing import Match, matches
from flux_pipeline.store.base import Store

_BACK = "restore it from a backup of the store, or ask for it anew with another seed or take"
REACH_SECONDS = 3900.0
"""An hour, after which inputs vanish, and what two clocks may differ by."""
_PAGE = 100
_UNPAID = frozenset({Status.FAILED, Status.CANCELED, Status.ABORTED})
_PAID = frozenset({State.ACCEPTED, State.SUCCEEDED, State.STORED, State.RESENT, State.DUPLICATE})
READERS = 8
Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number done and of all."""
_RESTORE = "restore it from a backup of the store"


def ignore(_done: int, _total: int) -> None:
    """The progress that nobody watches."""


def verify(
    producer: Producer,
    *,
    deep: bool = False,
    progress: Progress = ignore,
    now: Callable[[], float] = time.time,
) -> Verification:
    """Compare all that was paid with all that is there; ``deep`` also reads every object.

    Memory grows with the findings alone. ``progress`` is called with the number of objects read
    and of all; ``now`` gives unix seconds.

    Raises:
        StoreError, LedgerError: Where one of them can't be asked at all.
    """
    store, ledger = producer.store, producer.ledger
    with Inventory() as census:
        census.add_stored(store.list(IMAGES))
        result = Verification(images=census.count())
        since = now() - REACH_SECONDS
        result.findings.extend(
            survey_ledger(ledger.attempts(), census, store_uri=store.uri, listed_since=since)
        )
        _compare_list(producer, census, result, now())
        result.findings.extend(survey_lineage(store, census))
        census.add_stored_meanwhile(store.list(IMAGES))
        missing = list(_compare(census))
        if missing and (elsewhere := noted_elsewhere(ledger, store)):
            result.notes.append(elsewhere)
        result.findings.extend(missing)
        if deep:
            for done, wrong in enumerate(reread(store, census.stored()), 1):
                result.findings.extend(wrong)
                progress(done, result.images)
    return result


def _compare_list(producer: Producer, census: Inventory, result: Verification, now: float) -> None:
    check = ProviderListCheck(producer.ledger, census)

    async def run() -> None:
        async with producer.open_provider() as provider:
            await check.run(provider, now=now)

    anyio.run(run)
    result.findings.extend(check.findings)
    result.notes.extend(check.notes)
    result.complete = check.complete


def _compare(census: Inventory) -> Iterator[Finding]:
    """Hold the three sides of the census against each other."""
    for known in census.missing():
        yield Finding(Kind.LOST, known.key, f"{_who(known)} it is stored, and it is not; {_BACK}")
    for known in census.orphaned():
        yield Finding(Kind.ORPHANED, known.key, _orphaned(known))
    for known in census.contradictory():
        what = "ledger and lineage have recorded different hashes; `flux-pipeline verify --deep`"
        yield Finding(Kind.WRONG_HASH, known.key, f"{what} says which one is right")


def _who(known: InventoryRow) -> str:
    if known.ledger_file is None:
        return "the lineage says that"
    return "the ledger says that" if known.lineage_file is None else "ledger and lineage say that"


def _orphaned(known: InventoryRow) -> str:
    if known.ledger_file is None and known.lineage_file is None:
        return "neither ledger nor lineage knows it; `flux-pipeline reindex` enters it in both"
    if known.ledger_file is None:
        return "the ledger doesn't know it; `flux-pipeline reindex` enters it"
    if known.recorded:
        return "its lineage row is gone; `flux-pipeline reindex` writes it again"
    return (
        "it has no lineage row yet; a run under way writes it at its end, otherwise"
        " `flux-pipeline rescue` does"
    )


@dataclass(slots=True)
class ProviderListCheck:
    """One reading of the list, compared as it comes."""

    ledger: Ledger
    census: Inventory
    """Filled from the ledger."""
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    complete: bool = True
    _strangers: int = 0

    async def run(self, provider: Provider, *, now: float) -> None:
        """Read as far back as the list still shows inputs; ``now`` is unix seconds."""
        page: list[Prediction] = []
        async for each in provider.recent():
            if not isinstance(each, Prediction):
                self._note(each)
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

    def _note(self, failure: AccessDenied | ListFailed | NoList) -> None:
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
                self.findings.extend(self._unknown(prediction))

    def _unknown(self, prediction: Prediction) -> Iterator[Finding]:
        histories = [
            history
            for sha in self._candidates(prediction)
            if (history := self.ledger.history(sha)) and _is_of(prediction, history[-1])
        ]
        if not histories:
            self._strangers += 1
            return
        # A reproduction has its original's input: the one that waits for an answer is meant.
        meant = max(histories, key=_waits)
        finding = judge_unknown(prediction.id or "", meant)
        if finding is not None:
            yield finding

    def _candidates(self, prediction: Prediction) -> Sequence[str]:
        seed = prediction.input.get("seed")
        return self.census.requests(seed) if isinstance(seed, int) else ()


def judge_unknown(prediction_id: str, history: Sequence[Attempt]) -> Finding | None:
    """Judge a paid prediction whose request is known, and its id is not.

    None while an attempt is open without an id: its answer may be on the way.
    """
    states = {attempt.state for attempt in history}
    sha = history[-1].request_sha256
    adopt = f"`flux-pipeline held adopt {sha} {prediction_id}`"
    if State.INTENT in states:
        return None
    if State.HELD in states:
        what = f"the provider's list shows prediction {prediction_id} with its input; {adopt}"
        return Finding(Kind.HELD, sha, what)
    if states & _PAID or any(map(is_paid_in_vain, history)):
        what = f"accepted besides another prediction of the same request; {adopt} notes it"
        return Finding(Kind.PAID_TWICE, prediction_id, what)
    what = f"accepted, and the ledger says that its request never was; {adopt} fetches it"
    return Finding(Kind.LOST, prediction_id, what)


def _waits(history: Sequence[Attempt]) -> bool:
    return any(attempt.state in {State.INTENT, State.HELD} for attempt in history)


def _is_of(prediction: Prediction, attempt: Attempt) -> bool:
    try:
        return match_of(prediction, attempt) in {Match.OURS, Match.OTHER_VERSION}
    except LedgerError:
        return False


def reread(store: Store, stored: Iterable[InventoryRow]) -> Iterator[list[Finding]]:
    """Read and decode each object; yield what is wrong with it, an empty list for nothing.

    A few are held in memory at once.
    """
    return map_ahead(lambda known: list(_check(store, known)), stored, threads=READERS)


def _check(store: Store, known: InventoryRow) -> Iterator[Finding]:
    try:
        body = store.get(known.key)
    except StoreError as error:
        if store.head(known.key) is not None:
            yield Finding(Kind.UNREADABLE, known.key, f"{error}; {_RESTORE}")
        return
    differing = _differing(hashlib.sha256(body).hexdigest(), "bytes", known, store)
    try:
        name = known.key.rpartition(".")[2]
        seen = inspect_image(body, image_format=name, width=0, height=0)
        differing += _differing(seen.image_sha256, "pixels", known, store)
    except ImageError as error:
        yield Finding(Kind.UNREADABLE, known.key, f"{error}; {_RESTORE}")
    if differing:
        yield Finding(Kind.WRONG_HASH, known.key, f"{', '.join(differing)}; {_RESTORE}")


def _differing(found: str, what: str, known: InventoryRow, store: Store) -> list[str]:
    """Where other bytes, or other pixels, are recorded than were found."""
    if what == "bytes":
        recorded = {"the ledger": known.ledger_file, "the lineage": known.lineage_file}
    else:
        recorded = {"the ledger": known.ledger_pixels, "the lineage": known.lineage_pixels}
    if not any(recorded.values()):
        name = "file-sha256" if what == "bytes" else "image-sha256"
        stands = store.head(known.key)
        recorded = {"its metadata": stands.metadata.get(name) if stands else None}
    return [
        f"other {what} than {where} says"
        for where, hash_ in recorded.items()
        if hash_ not in {None, "", found}
    ]


def match_of(prediction: Prediction, attempt: Attempt) -> Match:
    """How a prediction relates to the attempt's request.

    Raises:
        LedgerError: Where the request can't be read in the ledger.
    """
    shown = {"model": prediction.model, "version": prediction.version, "input": prediction.input}
    return matches(shown, load_request(attempt.intent.request_json))
