"""Keeps a store without conditional writes to one ledger: each announces itself before it writes.

A ledger writes an object of its own below ``writers/`` and then lists them all, so that of two that
come at once at least one sees the other; a server must show in a listing what was written before.
Nothing is deleted: a ledger that takes a store over writes a higher term than all others.
"""

import json

from flux_pipeline.errors import StoreError, WrongStore
from flux_pipeline.ledger.schema import LEDGER_ID
from flux_pipeline.ledger.sql import SqlLedger
from flux_pipeline.store.base import Store

WRITERS = "writers/"
"""Below it one object for each ledger that has written to a store as its only writer."""
_JSON = "application/json"
_FIRST_TERM = 1


def check_only_writer(ledger: SqlLedger, store: Store) -> None:
    """Check that no other ledger writes to the store; writes nothing.

    Raises:
        WrongStore: Another one does.
        LedgerError, StoreError: They can't be read.
    """
    own = _key(ledger.note(LEDGER_ID) or "")
    announced = set(store.list(WRITERS))
    others = announced - {own}
    own_term = _read_term(store, own) if others and own in announced else 0
    if any(_read_term(store, each) >= own_term for each in others):
        raise WrongStore(
            f"{ledger.name}: {store.uri} is written by another ledger, and with"
            " FLUX_STORE_WRITERS=one two could overwrite each other's images: set FLUX_LEDGER to"
            " that one, or FLUX_STORE to a store of this one's own. If that one is lost for good"
            " and nobody runs with it, `flux-pipeline reindex --take-store` goes on with this one"
        )


def announce_writer(ledger: SqlLedger, store: Store) -> None:
    """Note in the store that this ledger writes to it, unless another one does.

    Two ledgers that come to a new store at once may both be refused, and a person decides.

    Raises:
        WrongStore: As ``check_only_writer``.
        LedgerError, StoreError: They can't be read or written.
    """
    check_only_writer(ledger, store)  # first: who is refused must leave nothing behind
    key = _key(ledger.identify())
    if store.head(key) is None:
        store.put(key, _to_json(_FIRST_TERM), content_type=_JSON)
        check_only_writer(ledger, store)


def replace_writers(ledger: SqlLedger, store: Store) -> None:
    """Make this ledger the one that writes to the store; all others are refused from now on.

    The trap: a run of another ledger that is under way goes on to its end.

    Raises:
        LedgerError, StoreError: They can't be read or written.
    """
    key = _key(ledger.identify())
    others = set(store.list(WRITERS)) - {key}
    term = 1 + max((_read_term(store, each) for each in others), default=0)
    store.put(key, _to_json(term), content_type=_JSON)


def _key(ledger_id: str) -> str:
    return f"{WRITERS}{ledger_id}.json"


def _to_json(term: int) -> bytes:
    return f"{json.dumps({'term': term})}\n".encode()


def _read_term(store: Store, key: str) -> int:
    try:
        return int(json.loads(store.get(key))["term"])
    except (TypeError, KeyError, ValueError) as error:
        raise StoreError(
            f"{store.uri}/{key}: is not what was written there: take it back from a backup, or"
            " delete it and run `flux-pipeline reindex --take-store` with the ledger that is to go"
            " on"
        ) from error
