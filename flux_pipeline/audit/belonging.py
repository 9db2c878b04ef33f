"""A ledger belongs to one store, and both to a real provider or to an emulated one.

With another store, what the ledger calls stored would be missing; with another ledger, what is
stored would be paid for again; with the real provider behind the emulator's ledger or store,
placeholders would count as made. All of it is told before anything is sent.
"""

from flux_pipeline.audit.census import IMAGES
from flux_pipeline.audit.surveying import key_of
from flux_pipeline.errors import LedgerError, StoreError
from flux_pipeline.ledger.base import State
from flux_pipeline.ledger.sql import SqlLedger
from flux_pipeline.lineage.record import ImageStatus
from flux_pipeline.lineage.rows import records_from_json
from flux_pipeline.store.base import Store

MARK = "provider.txt"
"""The object that says whose images a store holds."""
_STORE, _PROVIDER = "store", "provider"
_EMULATED, _REAL = "emulator", "real"
_WHOSE = {_EMULATED: "the emulator's placeholders", _REAL: "a real provider's images"}
_SAMPLE = 5


def check_provider(ledger: SqlLedger, *, emulated: bool) -> None:
    """Compare with the kind of provider that made what the ledger holds; writes nothing.

    Raises:
        LedgerError: It was the other kind.
    """
    noted = ledger.note(_PROVIDER)
    if noted not in {None, _kind(emulated=emulated)} and not ledger.is_empty():
        raise LedgerError(f"{ledger.name}: {_mixed(str(noted))}")


def claim_ledger(ledger: SqlLedger, store: Store, *, emulated: bool) -> None:
    """Note in ledger and store whose they are; where the ledger says so, nothing more is asked.

    A store that moved is noted anew, if one of a sample of what is stored lies there.

    Raises:
        LedgerError: It belongs to another store, or to the other kind of provider, or it does not
            know what is stored.
        StoreError: It can't be read or written, or belongs to the other kind of provider.
    """
    kind = _kind(emulated=emulated)
    if (ledger.note(_STORE), ledger.note(_PROVIDER)) == (store.uri, kind):
        return
    check_provider(ledger, emulated=emulated)
    _check_images(ledger, store)
    _mark_store(store, kind)
    ledger.set_note(_STORE, store.uri)
    ledger.set_note(_PROVIDER, kind)


def noted_elsewhere(ledger: SqlLedger, store: Store) -> str | None:
    """Say so where the ledger is noted as another store's: then it is no wonder what is missing.

    Raises LedgerError.
    """
    noted = ledger.note(_STORE)
    if noted in {None, store.uri}:
        return None
    return f"{ledger.name} belongs to {noted}, and FLUX_STORE is {store.uri}"


def _check_images(ledger: SqlLedger, store: Store) -> None:
    if ledger.is_empty():
        # Asked again: meanwhile another worker may have begun, and stored its first image.
        if next(iter(store.list(IMAGES)), None) and ledger.is_empty():
            raise LedgerError(
                f"{ledger.name}: does not know the images in {store.uri}, which would be paid for"
                " again: run flux-pipeline reindex, or set FLUX_STORE or FLUX_LEDGER to the other"
                " that belongs to it"
            )
    elif ledger.note(_STORE) != store.uri and not _holds_images(store, ledger):
        was = ledger.note(_STORE) or "another store"
        raise LedgerError(
            f"{ledger.name}: knows images that are stored in {was}, and FLUX_STORE is {store.uri},"
            " where they are not: copy them there, set FLUX_STORE back, or give the new store a"
            " ledger of its own: set FLUX_LEDGER"
        )


def _mark_store(store: Store, kind: str) -> None:
    """Write whose images these are; the mark of a store that holds none is nobody's."""
    mark = f"{kind}\n".encode()
    _, is_new = store.put_new(MARK, mark, content_type="text/plain", metadata={})
    if is_new or (noted := store.get(MARK).decode(errors="replace").strip()) == kind:
        return
    if next(iter(store.list(IMAGES)), None):
        raise StoreError(f"{store.uri}: {_mixed(noted)}")
    store.put(MARK, mark, content_type="text/plain")


def _holds_images(store: Store, ledger: SqlLedger) -> bool:
    """Whether an image that the ledger calls stored lies here; also where there is none."""
    records = [
        record
        for attempt in ledger.in_state(State.STORED, limit=_SAMPLE)
        for record in records_from_json(attempt.images)
        if record.status is ImageStatus.STORED and record.uri
    ]
    return not records or any(store.head(key_of(str(each.uri), store.uri)) for each in records)


def _kind(*, emulated: bool) -> str:
    return _EMULATED if emulated else _REAL


def _mixed(holds: str) -> str:
    now = "a real one" if holds == _EMULATED else "the emulator"
    return (
        f"is for {_WHOSE.get(holds, holds)}, and the provider is {now}: placeholders would count as"
        " made. Set FLUX_PROVIDER, or FLUX_STORE and FLUX_LEDGER to a store and a ledger of its own"
    )
