"""A ledger is one store's and one kind of provider's, and says so before anything is sent."""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flux_pipeline.audit.findings import Kind
from flux_pipeline.audit.ownership import (
    MARK,
    check_provider,
    check_same_store,
    check_store,
    claim_ledger,
    take_store,
)
from flux_pipeline.audit.reindex import reindex
from flux_pipeline.audit.verify import verify
from flux_pipeline.errors import LedgerError, StoreError, WrongStore
from flux_pipeline.ledger.base import State
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.store.base import Store
from flux_pipeline.store.open import open_store
from tests.ledger.attempts import begin
from tests.produce.pipeline import Pipeline, make_requests


def marked(store: Store) -> dict[str, str]:
    mark: dict[str, str] = json.loads(store.get(MARK))
    return mark


@pytest.fixture
def made(pipeline: Pipeline) -> Pipeline:
    """A pipeline whose ledger holds two images made by the emulator."""
    claim_ledger(pipeline.ledger, pipeline.store, emulated=True)
    pipeline.run(make_requests(2))
    return pipeline


def test_a_new_ledger_is_anybodys_and_then_that_ones(pipeline: Pipeline) -> None:
    claim_ledger(pipeline.ledger, pipeline.store, emulated=False)

    mark = marked(pipeline.store)
    assert mark["provider"] == pipeline.ledger.note("provider") == "real"
    assert mark["store_id"] == pipeline.ledger.note("store_id")
    assert pipeline.ledger.note("store_uri") == pipeline.store.uri


def test_where_nothing_was_made_the_next_may_have_it(pipeline: Pipeline, tmp_path: Path) -> None:
    claim_ledger(pipeline.ledger, pipeline.store, emulated=True)

    claim_ledger(pipeline.ledger, open_store(f"file:{tmp_path}/other"), emulated=False)

    assert pipeline.ledger.note("provider") == "real"


def test_a_store_in_which_nothing_lies_is_for_whoever_comes(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    claim_ledger(pipeline.ledger, pipeline.store, emulated=True)

    with open_ledger(f"sqlite:///{tmp_path}/new.db") as new:
        claim_ledger(new, pipeline.store, emulated=False)

    assert marked(pipeline.store)["provider"] == "real"


def test_the_emulators_ledger_is_refused_to_a_real_provider_and_the_other_way_round(
    made: Pipeline,
) -> None:
    with pytest.raises(LedgerError, match=r"is for the emulator's placeholders.*FLUX_LEDGER"):
        claim_ledger(made.ledger, made.store, emulated=False)
    with pytest.raises(LedgerError, match="the emulator's placeholders"):
        check_provider(made.ledger, emulated=False)

    made.ledger.set_notes({"provider": "real"})

    with pytest.raises(LedgerError, match=r"a real provider's images.*Set FLUX_PROVIDER"):
        claim_ledger(made.ledger, made.store, emulated=True)


def test_another_store_without_the_images_is_refused(made: Pipeline, tmp_path: Path) -> None:
    other = open_store(f"file:{tmp_path}/other")

    with pytest.raises(LedgerError, match=r"are in file:.*/store or .*FLUX_STORE is .*/other"):
        claim_ledger(made.ledger, other, emulated=True)

    assert made.ledger.note("store_uri") == made.store.uri


def test_a_lost_ledger_does_not_pay_for_what_is_stored(made: Pipeline, tmp_path: Path) -> None:
    with open_ledger(f"sqlite:///{tmp_path}/new.db") as new:
        with pytest.raises(LedgerError, match=r"would be paid for again: run .* reindex"):
            claim_ledger(new, made.store, emulated=True)

        reindex(made.store, new)
        claim_ledger(new, made.store, emulated=True)

        assert new.note("store_id") == marked(made.store)["store_id"]


def test_a_new_ledger_does_not_make_placeholders_count(made: Pipeline, tmp_path: Path) -> None:
    with open_ledger(f"sqlite:///{tmp_path}/new.db") as new:
        reindex(made.store, new)
        with pytest.raises(StoreError, match=r"/store: is for the emulator's placeholders"):
            claim_ledger(new, made.store, emulated=False)


def test_a_ledger_from_before_this_was_noted_is_asked_for_its_images(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    pipeline.run(make_requests(1))

    with pytest.raises(LedgerError, match="images that are in another store"):
        claim_ledger(pipeline.ledger, open_store(f"file:{tmp_path}/other"), emulated=True)
    claim_ledger(pipeline.ledger, pipeline.store, emulated=True)

    assert pipeline.ledger.note("store_uri") == pipeline.store.uri


def test_verify_says_that_the_ledger_is_another_stores(made: Pipeline, tmp_path: Path) -> None:
    assert verify(made.producer).notes == []

    other = replace(made, store=open_store(f"file:{tmp_path}/other"))
    result = verify(other.producer)

    assert not result.ok
    assert any("/store, and FLUX_STORE is" in note for note in result.notes)


@pytest.mark.parametrize("with_mark", [True, False])
def test_a_store_that_was_moved_is_known_again(
    made: Pipeline, tmp_path: Path, with_mark: bool
) -> None:
    """By its mark, or where only the images were moved, by one of them."""
    shutil.copytree(tmp_path / "store", tmp_path / "moved")
    if not with_mark:
        (tmp_path / "moved" / MARK).unlink()
    moved = open_store(f"file:{tmp_path}/moved")

    claim_ledger(made.ledger, moved, emulated=True)

    assert made.ledger.note("store_id") == marked(moved)["store_id"]


def test_of_two_stores_that_come_to_a_new_ledger_at_once_one_has_it(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    """Both found it empty; not one request of the other's is sent."""
    with open_ledger(f"sqlite:///{tmp_path}/ledger.db") as other:
        claim_ledger(pipeline.ledger, pipeline.store, emulated=True)
        claim_ledger(other, open_store(f"file:{tmp_path}/other"), emulated=True)

        with pytest.raises(LedgerError, match=r"belongs to file:.*/other since another worker"):
            pipeline.run(make_requests(1))
        assert pipeline.ledger.is_empty()
        assert pipeline.server.usage().creates_received == 0
        begin(other, 1)


def test_a_run_that_has_stored_nothing_yet_keeps_its_ledger(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    claim_ledger(pipeline.ledger, pipeline.store, emulated=True)
    attempt = begin(pipeline.ledger, 1)
    other = open_store(f"file:{tmp_path}/other")

    with pytest.raises(LedgerError, match=r"on their way there, and FLUX_STORE is .*/other"):
        claim_ledger(pipeline.ledger, other, emulated=True)

    pipeline.ledger.close(attempt, State.UNSENT, holder=attempt.holder)
    claim_ledger(pipeline.ledger, other, emulated=True)
    assert pipeline.ledger.note("store_uri") == other.uri


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_store_that_is_away_is_missed_before_anything_was_stored_in_it(
    pipeline: Pipeline, tmp_path: Path, made_anew: bool
) -> None:
    claim_ledger(pipeline.ledger, pipeline.store, emulated=True)
    attempt = begin(pipeline.ledger, 1)
    (tmp_path / "store").rename(tmp_path / "moved")
    if made_anew:
        (tmp_path / "store").mkdir()

    with pytest.raises(WrongStore, match=r"made anew\? Bring it back.*reindex --take-store"):
        check_store(pipeline.ledger, pipeline.store, emulated=True)

    assert (tmp_path / "store").exists() is made_anew
    pipeline.ledger.close(attempt, State.UNSENT, holder=attempt.holder)
    claim_ledger(pipeline.ledger, pipeline.store, emulated=True)


def test_a_store_that_is_lost_for_good_is_replaced_when_a_person_says_so(
    made: Pipeline, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(WrongStore):
        check_same_store(made.ledger, made.store)

    take_store(made.ledger, made.store)

    claim_ledger(made.ledger, made.store, emulated=True)
    assert len(verify(made.producer).ids(Kind.LOST)) == 2


def test_who_begins_while_another_looks_is_seen(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at an empty ledger and the note in it, the first request is written."""
    claim_ledger(pipeline.ledger, pipeline.store, emulated=True)
    other = open_store(f"file:{tmp_path}/other")
    put_new = type(other).put_new

    def begin_meanwhile(store: Store, *given: Any, **named: Any) -> Any:
        begin(pipeline.ledger, 1)
        return put_new(store, *given, **named)

    monkeypatch.setattr(type(other), "put_new", begin_meanwhile)
    with (
        open_ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger,
        pytest.raises(LedgerError, match="on their way there"),
    ):
        claim_ledger(ledger, other, emulated=True)

    assert pipeline.ledger.note("store_uri") == pipeline.store.uri


def test_a_mark_that_cannot_be_read_is_named(made: Pipeline) -> None:
    for text in (b"emulator", b"[]", b'{"store_id": "a"}'):
        made.store.put(MARK, text, content_type="application/json")
        with pytest.raises(StoreError, match=rf"/store/{MARK}: is not what was written there"):
            claim_ledger(made.ledger, made.store, emulated=True)


def test_a_ledger_that_says_so_already_is_only_read(made: Pipeline, tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with (
        open_ledger(f"sqlite:///{path}", patience_seconds=0.1) as ledger,
        closing(sqlite3.connect(path)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")  # whoever writes now has to wait
        claim_ledger(ledger, made.store, emulated=True)
        with pytest.raises(LedgerError):
            ledger.set_notes({"store_id": "elsewhere"})
