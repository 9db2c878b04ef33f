"""Checks that ledger, store and kind of provider belong together, before anything is sent.

With another store, images that the ledger has as stored would be missing; with another ledger,
stored images would be paid for again; with the real provider behind the emulator's ledger or store,
placeholders would count as made. So each notes the id of the store and the kind of provider.
"""

import json
import uuid
from dataclasses import asdict, dataclass, replace

from flux_pipeline.audit.writers import announce_writer, check_only_writer, replace_writers
from flux_pipeline.errors import LedgerError, StoreError, WrongStore
from flux_pipeline.ledger.base import State
from flux_pipeline.ledger.schema import STORE_ID, STORE_URI
from flux_pipeline.ledger.sql import SqlLedger
from flux_pipeline.lineage.record import ImageStatus, records_from_json
from flux_pipeline.store.base import IMAGES, Store, key_of

MARK = "store.json"
"""Key of the object with the store's id, which stays with it when it is moved."""
_PROVIDER = "provider"
_GENERATION = "generation"
_EMULATED, _REAL = "emulator", "real"
_HOLDS = {_EMULATED: "the emulator's placeholders", _REAL: "a real provider's images"}
_SAMPLE = 5


@dataclass(frozen=True, slots=True)
class _Mark:
    store_id: str
    provider: str
    generation: int = 0
    """Grows with every run that records something; the ledger notes the same number."""

    def to_json(self) -> bytes:
        return f"{json.dumps(asdict(self))}\n".encode()


def check_provider(ledger: SqlLedger, *, emulated: bool) -> None:
    """Check that the ledger's requests were sent to this kind of provider; writes nothing.

    Raises:
        LedgerError: They were sent to the other kind.
    """
    noted = ledger.note(_PROVIDER)
    if noted not in {None, _kind(emulated=emulated)} and not ledger.is_empty():
        raise LedgerError(f"{ledger.name}: {_mixed(str(noted))}")


def check_store(
    ledger: SqlLedger, store: Store, *, emulated: bool, only_writer: bool = False
) -> None:
    """Check what ``claim_ledger`` checks, and write nothing: not even a folder is made.

    Raises:
        LedgerError, StoreError: As ``claim_ledger``.
    """
    if only_writer:
        check_only_writer(ledger, store)
    check_provider(ledger, emulated=emulated)
    mark = _read_mark(store)
    _check_images(ledger, store, mark, is_empty=ledger.is_empty())


def claim_ledger(
    ledger: SqlLedger, store: Store, *, emulated: bool, only_writer: bool = False
) -> None:
    """Note in ledger and store that they belong together; from now on the ledger enforces it.

    An empty ledger or store is taken over. Where workers with two stores open an empty ledger at
    once, the later one gets it, and the other one's claims are refused. With ``only_writer`` no
    second ledger may write to the store.

    Raises:
        LedgerError: It belongs to another store, or to the other kind of provider, or it does not
            know what is stored, or is not the only writer.
        StoreError: It can't be read or written, or belongs to the other kind of provider.
    """
    if only_writer:
        announce_writer(ledger, store)
    kind = _kind(emulated=emulated)
    mark = _read_mark(store)
    if older := describe_older(ledger, store):
        raise LedgerError(older)
    while mark is None or (ledger.note(STORE_ID), ledger.note(_PROVIDER)) != (mark.store_id, kind):
        check_provider(ledger, emulated=emulated)
        was_empty = ledger.is_empty()
        _check_images(ledger, store, mark, is_empty=was_empty)
        mark = _mark_store(store, kind, _new_id(ledger, store, only_writer=only_writer))
        notes = {STORE_ID: mark.store_id, STORE_URI: store.uri, _PROVIDER: kind}
        # Refused where another worker has begun meanwhile: then all of it is checked again.
        ledger.set_notes(notes, if_empty=was_empty)
    ledger.claim_only_for(mark.store_id)


def describe_mismatch(ledger: SqlLedger, store: Store) -> str | None:
    """A sentence that the ledger belongs to another store; None where it doesn't.

    Raises:
        LedgerError, StoreError: They can't be read.
    """
    noted = ledger.note(STORE_ID)
    mark = _read_mark(store)
    if noted is None or (mark is not None and noted == mark.store_id):
        return None
    return f"{ledger.name} belongs to {ledger.note(STORE_URI)}, and FLUX_STORE is {store.uri}"


def describe_older(ledger: SqlLedger, store: Store) -> str | None:
    """A sentence that runs have recorded images of which the ledger knows nothing; else None.

    Raises:
        LedgerError, StoreError: They can't be read.
    """
    mark = _read_mark(store)  # before the ledger's: a run that ends now raises the ledger's first
    if mark is None or mark.store_id != ledger.note(STORE_ID):
        return None
    if mark.generation <= _generation(ledger):
        return None
    return (
        f"{ledger.name} is older than {store.uri}, as a backup is: what was made since would be"
        " paid for again. Run `flux-pipeline reindex`, which enters what is stored"
    )


def raise_generation(ledger: SqlLedger, store: Store) -> None:
    """Note in ledger and store that something was recorded: an older ledger is told by it.

    Raises:
        LedgerError, StoreError: They can't be written.
    """
    mark = _read_mark(store)
    if mark is None or mark.store_id != ledger.note(STORE_ID):
        return
    generation = 1 + max(mark.generation, _generation(ledger))
    ledger.set_notes({_GENERATION: str(generation)})  # first: it is never below the store's
    marked = replace(mark, generation=generation)
    store.put(MARK, marked.to_json(), content_type="application/json")


def accept_generation(ledger: SqlLedger, store: Store) -> None:
    """Note that the ledger knows all that the store holds, as it does after a reindex.

    Raises:
        LedgerError, StoreError: They can't be read or written.
    """
    mark = _read_mark(store)
    if mark is not None and mark.generation > _generation(ledger):
        ledger.set_notes({_GENERATION: str(mark.generation)})


def _generation(ledger: SqlLedger) -> int:
    return int(ledger.note(_GENERATION) or 0)


def _check_images(ledger: SqlLedger, store: Store, mark: _Mark | None, *, is_empty: bool) -> None:
    """Raise LedgerError where the store's images are not the ledger's."""
    if is_empty:
        # Asked again: meanwhile another worker may have begun, and stored its first image.
        if next(iter(store.list(IMAGES)), None) and ledger.is_empty():
            raise LedgerError(
                f"{ledger.name}: does not know the images in {store.uri}, which would be paid for"
                " again: run flux-pipeline reindex, or set FLUX_STORE or FLUX_LEDGER to the other"
                " that belongs to it"
            )
        return
    check_same_store(ledger, store, mark)


def check_same_store(ledger: SqlLedger, store: Store, mark: _Mark | None = None) -> None:
    """Check that this is the store of the ledger's images, where it has any; writes nothing.

    Raises:
        WrongStore: It is another one, or none: it was moved away, unmounted or made anew.
        StoreError: It can't be read.
    """
    mark = mark or _read_mark(store)
    is_noted = mark is not None and ledger.note(STORE_ID) == mark.store_id
    if is_noted or _holds_images(store, ledger):
        return
    was = ledger.note(STORE_URI) or "another store"
    if was == store.uri:
        raise WrongStore(
            f"{ledger.name}: knows images that are in {was} or on their way there, and it holds"
            " none of them: was it moved away, its disk not mounted, or was it made anew? Bring it"
            " back, set FLUX_STORE to where it is now, or restore it from a backup. If it is lost"
            " for good, `flux-pipeline reindex --take-store` goes on with what is there"
        )
    raise WrongStore(
        f"{ledger.name}: knows images that are in {was} or on their way there, and FLUX_STORE"
        f" is {store.uri}, where they are not: copy them there, set FLUX_STORE back, or give"
        " the new store a ledger of its own: set FLUX_LEDGER"
    )


def take_store(ledger: SqlLedger, store: Store, *, only_writer: bool = False) -> None:
    """Let the ledger go on with this store, although the images that it knows are not there.

    They stay recorded as stored, and ``verify`` names them as lost. What is on its way is stored
    here from now on. With ``only_writer`` every other ledger is refused there.

    Raises:
        LedgerError, StoreError: They can't be read or written.
    """
    if only_writer:
        replace_writers(ledger, store)
    new_id = _new_id(ledger, store, only_writer=only_writer)
    there = _read_mark(store)
    kind = ledger.note(_PROVIDER) or (there.provider if there else _REAL)  # a new ledger has none
    mark = _mark_store(store, kind, new_id)
    ledger.set_notes({STORE_ID: mark.store_id, STORE_URI: store.uri})


def _read_mark(store: Store) -> _Mark | None:
    if store.head(MARK) is None:
        return None
    text = store.get(MARK)
    try:
        return _Mark(**json.loads(text))
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"{store.uri}/{MARK}: is not what was written there: take it back from a backup, or"
            " delete it, and the next run writes a new one"
        ) from error


def _new_id(ledger: SqlLedger, store: Store, *, only_writer: bool) -> str:
    """An id for a store without one.

    Without conditional writes, workers of one ledger could overwrite each other's: then all of them
    write the same one.
    """
    if not only_writer:
        return uuid.uuid4().hex
    return uuid.uuid5(uuid.NAMESPACE_URL, f"{ledger.identify()} {store.uri}").hex


def _mark_store(store: Store, kind: str, new_id: str) -> _Mark:
    """Write the store's mark unless it has one; that of a store without images is replaced."""
    new = _Mark(new_id, kind)
    store.put_new(MARK, new.to_json(), content_type="application/json", metadata={})
    found = _read_mark(store) or new
    if found.provider == kind:
        return found
    if next(iter(store.list(IMAGES)), None):
        raise StoreError(f"{store.uri}: {_mixed(found.provider)}")
    store.put(MARK, new.to_json(), content_type="application/json")
    return new


def _holds_images(store: Store, ledger: SqlLedger) -> bool:
    """Whether the store has an image of the ledger, or the ledger has none and expects none."""
    records = [
        record
        for attempt in ledger.in_state(State.STORED, limit=_SAMPLE)
        for record in records_from_json(attempt.images)
        if record.status is ImageStatus.STORED and record.uri
    ]
    if records:
        return any(store.head(key_of(str(each.uri), store.uri)) for each in records)
    # A store that was marked and is not any more is away, even where no image was stored yet.
    is_unmarked = ledger.note(STORE_ID) is None
    return is_unmarked or not any(ledger.in_state(each, limit=1) for each in State if each.is_open)


def _kind(*, emulated: bool) -> str:
    return _EMULATED if emulated else _REAL


def _mixed(holds: str) -> str:
    now = "a real one" if holds == _EMULATED else "the emulator"
    return (
        f"is for {_HOLDS.get(holds, holds)}, and the provider is {now}: placeholders would count as"
        " made. Set FLUX_PROVIDER, or FLUX_STORE and FLUX_LEDGER to a store and a ledger of its own"
    )
