"""Finds stored pictures that no prompt set asks for any more, and archives or removes them.

Obsolete is what no set asked for when it was read last (``lineage.asked``), and what none asks for
as its file stands now. ``find_obsolete`` says what is kept all the same, and why. ``prune`` removes
in the order of ``produce.removal``, a batch at a time: after the claims it looks once more whether
a run has begun to ask, and gives back what it has claimed. A run that begins later finds the claims
and waits for their end, so that it makes again what it asks for, or is never told that it is there.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, TypeVar
from uuid import uuid4

import numpy as np

from flux_pipeline.errors import LedgerError, StoreError
from flux_pipeline.iteration import batched, map_ahead
from flux_pipeline.ledger.base import Attempt, Claimed, Ledger, State
from flux_pipeline.ledger.codec import load_request
from flux_pipeline.ledger.sql import SqlLedger
from flux_pipeline.lineage.asked import (
    ASKED,
    Asked,
    Asking,
    Fingerprints,
    read_asked,
    runs_asking,
    short_fingerprint,
)
from flux_pipeline.lineage.parts import write_part
from flux_pipeline.lineage.query import Condition, equals, open_snapshot
from flux_pipeline.lineage.record import (
    ImageRecord,
    ImageStatus,
    records_from_json,
    records_to_json,
    removed_record,
)
from flux_pipeline.lineage.table import is_any_of
from flux_pipeline.produce.removal import (
    Removal,
    archive_images,
    are_all_there,
    delete_images,
    write_removed_rows,
)
from flux_pipeline.store.base import Store
from flux_pipeline.store.open import open_store

T = TypeVar("T")
WHY = "removed by `flux-pipeline prune`: no prompt asked for it"
ASKED_NOW = "a prompt set asks for it as its file stands now, and no run has read that yet"
A_SOURCE = "it went into a picture that is kept"
GOES_IN = "it goes into a prediction that is under way"
_BATCH = 100
"""Requests that are claimed at once: a kill leaves at most so many to be settled."""
_THREADS = 8
_MOST_OPEN = 10_000
_COLUMNS = (
    *("request_sha256", "prompt_set", "prompt_name", "partition", "stored_at", "bytes"),
    *("uri", "file_sha256", "image_sha256", "input_images"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Obsolete:
    """The stored pictures of one request that no prompt set asks for."""

    request_sha256: str
    prompt_set: str
    prompt_name: str
    partition: str
    made_at: datetime | None
    """When the last of them was stored, UTC."""
    bytes: int
    uris: tuple[str, ...]
    hashes: frozenset[str]
    """SHA-256 of their files and of their pixels."""
    sources: frozenset[str]
    """SHA-256 of the files that went into them, and of the requests that made those."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An obsolete picture that is not removed, and why."""

    obsolete: Obsolete
    reason: str


@dataclass(slots=True)
class Found:
    """What is obsolete."""

    obsolete: list[Obsolete] = field(default_factory=list)
    """By prompt set and prompt, the newest first."""
    kept: list[Kept] = field(default_factory=list)
    running: Sequence[Asking] = ()
    """Runs that read what is asked for at this moment: nothing is removed until they end."""
    asked_keys: frozenset[str] = frozenset()
    """What the sets' readings were when this was found."""

    @property
    def files(self) -> int:
        """The number of pictures to be removed."""
        return sum(len(each.uris) for each in self.obsolete)

    @property
    def bytes(self) -> int:
        """Their size."""
        return sum(each.bytes for each in self.obsolete)

    @property
    def reasons(self) -> Counter[str]:
        """Why others are kept, with the number of pictures."""
        found: Counter[str] = Counter()
        for each in self.kept:
            found[each.reason] += len(each.obsolete.uris)
        return found


@dataclass(slots=True)
class Pruned:
    """What ``prune`` did."""

    removed: list[Obsolete] = field(default_factory=list)
    archived: int = 0
    """Pictures of which the archive has a copy now."""
    settled: int = 0
    """Requests whose removal an earlier prune had begun and not ended."""
    kept: list[Kept] = field(default_factory=list)
    """What was found obsolete and is asked for, or changed, since."""
    failed: dict[str, str] = field(default_factory=dict)
    """Requests that could not be removed, with the reason."""
    stopped: str = ""
    """Why nothing more was removed; empty where all was tried."""


ReadWanted = Callable[[Mapping[str, Collection[str]]], Fingerprints]
"""Given the partitions of what seems obsolete, by prompt set: what the sets ask for as they stand,
sorted. Of sets by day only those days need be read."""


def find_obsolete(
    store: Store,
    ledger: SqlLedger,
    *,
    read_wanted: ReadWanted,
    reasons: Mapping[str, str],
    now: datetime,
    prompt_sets: Collection[str] | None = None,
    older_than: timedelta = timedelta(0),
    keep: int = 0,
) -> Found:
    """Find what is obsolete, and what is kept all the same; nothing is written.

    ``reasons`` keep pictures by the hash of their pixels, or of their request: what was chosen or
    published. ``prompt_sets`` None is all. Of each prompt the ``keep`` newest obsolete requests
    stay. Memory: about 1 KB for each obsolete picture.

    Raises:
        StoreError, LedgerError: One of them can't be read.
    """
    keys = frozenset(store.list(ASKED))
    found = Found(running=runs_asking(store, now=now), asked_keys=keys)
    candidates, needed = _read_candidates(store, read_asked(store))
    needed |= _sources_under_way(ledger)
    partitions: dict[str, set[str]] = {}
    for each in candidates.values():
        partitions.setdefault(each.prompt_set, set()).add(each.partition)
    wanted = read_wanted(partitions) if candidates else np.empty(0, np.uint64)
    kept = _find_reasons(candidates.values(), Asked(wanted, frozenset()), reasons, needed)
    cut = now - older_than
    asked_for = (
        each
        for each in candidates.values()
        if prompt_sets is None or each.prompt_set in prompt_sets
    )
    ordered = sorted(asked_for, key=_newest_first)
    for _, group in groupby(ordered, key=lambda each: (each.prompt_set, each.prompt_name)):
        of_prompt = 0
        for each in group:
            reason = kept.get(each.request_sha256, "")
            if not reason:
                of_prompt += 1
                reason = f"one of the {keep} newest of its prompt" if of_prompt <= keep else ""
            if not reason and older_than and (each.made_at is None or each.made_at > cut):
                reason = f"made less than {_days(older_than)} ago"
            if reason:
                found.kept.append(Kept(each, reason))
            else:
                found.obsolete.append(each)
    _keep_what_the_ledger_says(ledger, found)
    return found


def _read_candidates(store: Store, asked: Asked) -> tuple[dict[str, Obsolete], set[str]]:
    """Requests with stored pictures that are not current, and the sources of all other pictures."""
    candidates: dict[str, Obsolete] = {}
    needed: set[str] = set()
    conditions: list[Condition] = [equals("status", ImageStatus.STORED)]
    for table in open_snapshot(store).find(conditions, list(_COLUMNS)):
        rows = table.to_pylist()
        current = asked.are_current(
            (row["request_sha256"] for row in rows),
            (row["prompt_set"] for row in rows),
            (row["partition"] for row in rows),
        )
        for row, is_current in zip(rows, current, strict=True):
            if is_current is False:
                _add_candidate(candidates, row)
            elif row["input_images"]:
                needed |= _sources_of(row)
    return candidates, needed


def _add_candidate(candidates: dict[str, Obsolete], row: Mapping[str, Any]) -> None:
    sha = str(row["request_sha256"])
    hashes = frozenset(str(row[name]) for name in ("file_sha256", "image_sha256") if row[name])
    one = Obsolete(
        request_sha256=sha,
        prompt_set=str(row["prompt_set"]),
        prompt_name=str(row["prompt_name"]),
        partition=str(row["partition"]),
        made_at=row["stored_at"],
        bytes=int(row["bytes"] or 0),
        uris=(str(row["uri"]),),
        hashes=hashes,
        sources=frozenset(_sources_of(row)),
    )
    if (other := candidates.get(sha)) is None:
        candidates[sha] = one
        return
    times = [each.made_at for each in (one, other) if each.made_at is not None]
    candidates[sha] = replace(
        other,
        made_at=max(times, default=None),
        bytes=other.bytes + one.bytes,
        uris=(*other.uris, *one.uris),
        hashes=other.hashes | one.hashes,
    )


def _sources_of(row: Mapping[str, Any]) -> set[str]:
    try:
        found = json.loads(row["input_images"] or "[]")
        return {str(each[name]) for each in found for name in ("sha256", "request_sha256")}
    except (ValueError, LookupError, TypeError):
        return set()


def _sources_under_way(ledger: SqlLedger) -> set[str]:
    """The files that go into predictions which were sent, or are about to be."""
    found: set[str] = set()
    for attempt in ledger.unfinished(limit=_MOST_OPEN):
        if attempt.state.is_open:
            try:
                request = load_request(attempt.intent.request_json)
            except LedgerError:
                continue  # a rescue reports it
            found.update(picture.sha256 for picture in request.pictures)
    return found


def _find_reasons(
    candidates: Collection[Obsolete], wanted: Asked, given: Mapping[str, str], needed: set[str]
) -> dict[str, str]:
    """Why some of the candidates are kept, by request."""
    kept: dict[str, str] = {}
    shas = [each.request_sha256 for each in candidates]
    is_wanted = wanted.are_current(shas, [""] * len(shas), [""] * len(shas))
    for each, asked in zip(candidates, is_wanted, strict=True):
        own = next((given[key] for key in (each.request_sha256, *each.hashes) if key in given), "")
        if asked:
            kept[each.request_sha256] = ASKED_NOW
        elif own:
            kept[each.request_sha256] = own
        if each.request_sha256 in kept:
            needed |= each.sources
    # What went into a picture that is kept is kept, and what went into that one.
    changed = True
    while changed:
        changed = False
        for each in candidates:
            is_source = each.request_sha256 in needed or not needed.isdisjoint(each.hashes)
            if is_source and each.request_sha256 not in kept:
                kept[each.request_sha256] = A_SOURCE
                needed |= each.sources
                changed = True
    return kept


def _newest_first(each: Obsolete) -> tuple[str, str, float, str]:
    age = -each.made_at.timestamp() if each.made_at else 0.0
    return each.prompt_set, each.prompt_name, age, each.request_sha256


def _keep_what_the_ledger_says(ledger: SqlLedger, found: Found) -> None:
    """Keep what the ledger does not have as stored and recorded."""
    listed, found.obsolete = found.obsolete, []
    for batch in batched(listed, _BATCH):
        latest = ledger.find([each.request_sha256 for each in batch])
        for each in batch:
            if reason := _not_prunable(latest.get(each.request_sha256)):
                found.kept.append(Kept(each, reason))
            else:
                found.obsolete.append(each)


def _not_prunable(attempt: Attempt | None) -> str:
    if attempt is None:
        return "the ledger doesn't know it: `flux-pipeline reindex` enters it"
    if attempt.state is State.PRUNING:
        return "its removal is under way"
    if attempt.state is not State.STORED:
        return f"the ledger has it as {attempt.state.value}"
    if not attempt.recorded:
        return "its lineage row is not written yet: the next run or `flux-pipeline rescue` does"
    return ""


def _days(time_: timedelta) -> str:
    return f"{time_.days} days" if time_ >= timedelta(days=1) else f"{time_}"


def prune(
    store: Store,
    ledger: SqlLedger,
    found: Found,
    *,
    now: Callable[[], datetime],
    archive: Store | None = None,
    open_archive: Callable[[str], Store] = open_store,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Pruned:
    """Remove what was found obsolete, copied to ``archive`` before that where there is one.

    What an earlier prune began and did not end is settled first. ``progress`` is called with the
    number of requests done and of all.

    Raises:
        StoreError, LedgerError: What was begun is settled by the next prune, run or rescue.
    """
    pruner = _Pruner(store, ledger, archive, now, f"prune-{uuid4().hex}", Pruned())
    pruner.settle_unfinished(open_archive)
    done = 0
    for batch in batched(found.obsolete, _BATCH):
        if not pruner.remove(batch, found.asked_keys):
            break
        done += len(batch)
        progress(done, len(found.obsolete))
    return pruner.result


@dataclass(frozen=True, slots=True)
class _Begun:
    """One request whose removal is claimed."""

    obsolete: Obsolete
    before: Attempt
    claimed: Attempt
    records: Sequence[ImageRecord]
    """As they are to be when all is removed."""


@dataclass(slots=True)
class _Pruner:
    store: Store
    ledger: SqlLedger
    archive: Store | None
    now: Callable[[], datetime]
    holder: str
    result: Pruned

    def settle_unfinished(self, open_archive: Callable[[str], Store]) -> None:
        """End what a prune that was killed has begun; what another one does now is left to it."""
        removal = Removal(self.store, self._call, self.holder, self.now, open_archive)
        for attempt in self.ledger.in_state(State.PRUNING, limit=_MOST_OPEN):
            claim = self.ledger.claim(attempt.intent, holder=self.holder)
            if not isinstance(claim, Claimed) or claim.attempt.state is not State.PRUNING:
                continue
            try:
                ended = removal.settle(claim.attempt)
            except StoreError as error:
                self.result.failed[attempt.request_sha256] = str(error)
                continue
            self.result.settled += 1
            if ended.state is State.STORED:
                self._record(ended)

    def _call(self, work: Callable[[Ledger], T]) -> T:
        with self.ledger.transaction() as ledger:
            return work(ledger)

    def _record(self, stored: Attempt) -> None:
        """Write the rows of what is stored again."""
        records = records_from_json(stored.images)
        write_part(
            self.store,
            records,
            asset=records[0].asset,
            partition="returned",
            run_id=f"prune-{uuid4().hex[:12]}",
            day=self.now().date(),
        )
        self.ledger.mark_recorded([stored.request_sha256])

    def remove(self, batch: Sequence[Obsolete], asked_keys: frozenset[str]) -> bool:
        """Remove one batch; return whether to go on with the next."""
        planned = self._planned(batch)
        since = time.monotonic()  # before the claims, because no lease ends earlier than from here
        left = self._give_back_what_is_asked(self._begin(planned), asked_keys)
        with _renewing(lambda: self._renew(left), self.ledger.lease_seconds, since) as is_held:
            deleted = self._delete(left, is_held)
            if deleted:
                rows = [record for each in deleted for record in each.records]
                write_removed_rows(self.store, rows, now=self.now())
                self._end(deleted)
        return not self.result.stopped

    def _planned(self, batch: Sequence[Obsolete]) -> list[tuple[Obsolete, Attempt, Any]]:
        """Each with its attempt and its records as they are to be; archived where it is wanted."""
        latest = self.ledger.find([each.request_sha256 for each in batch])
        known = [(each, latest.get(each.request_sha256)) for each in batch]
        planned = map_ahead(lambda pair: self._plan(*pair), known, threads=_THREADS)
        return [one for one in planned if one is not None]

    def _plan(
        self, each: Obsolete, attempt: Attempt | None
    ) -> tuple[Obsolete, Attempt, Sequence[ImageRecord]] | None:
        if (reason := _not_prunable(attempt)) or attempt is None:
            self.result.kept.append(Kept(each, reason))
            return None
        try:
            records = [
                removed_record(record, why=WHY, at=self.now(), archived_uri=None)
                if record.status is ImageStatus.STORED
                else record
                for record in records_from_json(attempt.images)
            ]
            if self.archive is not None:
                records = archive_images(self.store, self.archive, records)
        except (StoreError, ValueError) as error:
            self.result.failed[each.request_sha256] = str(error)
            return None
        return each, attempt, records

    def _begin(
        self, planned: Iterable[tuple[Obsolete, Attempt, Sequence[ImageRecord]]]
    ) -> list[_Begun]:
        begun = []
        with self.ledger.transaction() as ledger:
            for each, attempt, records in planned:
                images = records_to_json(records)
                claimed = ledger.begin_pruning(attempt, holder=self.holder, images=images)
                if claimed is None:
                    changed = "it changed in the ledger meanwhile"
                    self.result.kept.append(Kept(each, changed))
                else:
                    begun.append(_Begun(each, attempt, claimed, records))
        return begun

    def _give_back_what_is_asked(
        self, begun: Sequence[_Begun], asked_keys: frozenset[str]
    ) -> Sequence[_Begun]:
        """Look once more, now that every run that begins sees the claims."""
        if running := runs_asking(self.store, now=self.now()):
            self.result.stopped = describe_running(running[0])
            self._give_back(begun, self.result.stopped)
            return []
        if frozenset(self.store.list(ASKED)) == asked_keys:
            return begun
        asked = read_asked(self.store).requests
        shas = [short_fingerprint(each.obsolete.request_sha256) for each in begun]
        again = is_any_of(np.array(shas, np.uint64), asked).tolist()
        self._give_back(
            [each for each, is_asked in zip(begun, again, strict=True) if is_asked],
            "a run has asked for it again meanwhile",
        )
        return [each for each, is_asked in zip(begun, again, strict=True) if not is_asked]

    def _renew(self, begun: Sequence[_Begun]) -> bool:
        with self.ledger.transaction() as ledger:
            return all(ledger.renew(each.claimed, holder=self.holder) for each in begun)

    def _give_back(self, begun: Sequence[_Begun], why: str) -> None:
        """Leave them as they were: nothing of them was touched."""
        self._close(begun, State.STORED)
        self.result.kept += [Kept(each.obsolete, why) for each in begun]

    def _delete(self, begun: Sequence[_Begun], is_held: Callable[[], bool]) -> list[_Begun]:
        """Delete the objects; return those of which all are gone."""

        def delete(each: _Begun) -> str:
            if not is_held():
                return "its claim could not be renewed in time; the next prune goes on"
            try:
                delete_images(self.store, each.records)
            except StoreError as error:
                return str(error)
            return ""

        deleted, whole = [], []
        problems = map_ahead(delete, begun, threads=_THREADS)
        for each, problem in zip(begun, problems, strict=True):
            if not problem:
                deleted.append(each)
                continue
            self.result.failed[each.obsolete.request_sha256] = problem
            if is_held() and are_all_there(self.store, each.records):
                whole.append(each)
        self._give_back(whole, "it can't be deleted")
        return deleted

    def _close(self, begun: Sequence[_Begun], state: State) -> None:
        """End these claims; their rows are in the lineage already."""
        with self.ledger.transaction() as ledger:
            closed = [
                each.before.request_sha256
                for each in begun
                if ledger.close(
                    each.claimed,
                    state,
                    holder=self.holder,
                    error=WHY if state is State.PRUNED else each.before.error,
                    images=(each.claimed if state is State.PRUNED else each.before).images,
                )
            ]
            ledger.mark_recorded(closed)

    def _end(self, deleted: Sequence[_Begun]) -> None:
        self._close(deleted, State.PRUNED)
        self.result.removed += [each.obsolete for each in deleted]
        if self.archive is not None:
            self.result.archived += sum(len(each.obsolete.uris) for each in deleted)


def describe_running(run: Asking) -> str:
    """Why nothing is removed while a run reads what is asked for, and what to do."""
    return (
        f"run {run.run_id} reads what {run.prompt_set} asks for since {run.since:%Y-%m-%d %H:%M}"
        f" UTC: prune again when it has ended; if it was killed, delete {run.uri}"
    )


@contextmanager
def _renewing(
    renew: Callable[[], bool], lease: float, held_since: float
) -> Iterator[Callable[[], bool]]:
    """Renew claims until the block ends; give a function that says whether they hold for sure.

    An object must not be deleted once another worker may have taken the claim over, and stored a
    new picture under its key.
    """
    ended = threading.Event()

    def work() -> None:
        nonlocal held_since
        while not ended.wait(lease / 3):
            asked_at = time.monotonic()
            try:
                if not renew():
                    return
            except LedgerError:
                continue  # asked again, as long as the claims hold
            held_since = asked_at

    thread = threading.Thread(target=work, name="prune-claims", daemon=True)
    thread.start()
    try:
        yield lambda: time.monotonic() - held_since < lease / 2
    finally:
        ended.set()
        thread.join()
