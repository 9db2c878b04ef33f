"""A ledger that was restored from a backup, and the store that has gone on without it.

The backups are real copies of the database, taken between runs.
"""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import pytest
import sqlalchemy as sa

from flux_pipeline.audit.findings import Kind
from flux_pipeline.audit.held import find_held, resend
from flux_pipeline.audit.ownership import MARK, claim_ledger, raise_generation
from flux_pipeline.audit.reindex import reindex
from flux_pipeline.audit.verify import verify
from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger.base import State
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.schema import METADATA
from flux_pipeline.produce.producer import Producer
from flux_pipeline.produce.report import Tally
from flux_pipeline.request import Request
from tests.audit.unfinished import accept, intend
from tests.produce.pipeline import POLICY, QUICK, Pipeline, make_requests
from tests.servers.postgres import PostgresServer

Open = Callable[..., Pipeline]
NO_LIST = QUICK.model_copy(update={"list_enabled": False})


class Owned(Pipeline):
    """A pipeline whose ledger and store are marked, as every command does it."""

    @property
    def producer(self) -> Producer:
        note = partial(raise_generation, self.ledger, self.store)
        return replace(super().producer, note_recorded=note)

    def make(self, requests: list[Request]) -> Tally:
        claim_ledger(self.ledger, self.store, emulated=True)
        return self.run(requests)


def owned(open_pipeline: Open, *arguments: object) -> Owned:
    return cast("Owned", open_pipeline(*arguments, kind=Owned))


def unmarked(pipeline: Owned) -> Pipeline:
    """The same pipeline, whose runs die before they raise the marks."""
    return Pipeline(**{name: getattr(pipeline, name) for name in pipeline.__dataclass_fields__})


@pytest.fixture
def pipeline(open_pipeline: Open) -> Owned:
    return owned(open_pipeline)


def back_up(pipeline: Pipeline) -> Path:
    """Copy the database as SQLite's own backup does it, at a moment of its choice."""
    copy = pipeline.folder / "backup.db"
    with (
        closing(sqlite3.connect(pipeline.folder / "ledger.db")) as ledger,
        closing(sqlite3.connect(copy)) as backup,
    ):
        ledger.backup(backup)
    return copy


def restore(pipeline: Pipeline, copy: Path) -> None:
    pipeline.ledger.dispose()
    for old in pipeline.folder.glob("ledger.db*"):
        if old.is_file():
            old.unlink()
    shutil.copy(copy, pipeline.folder / "ledger.db")
    pipeline.reopen()


def states(pipeline: Pipeline) -> list[State]:
    return [each.state for each in pipeline.ledger.attempts()]


def assert_refused_and_mended(pipeline: Owned, requests: list[Request]) -> None:
    """Before anything is sent; and after a reindex everything is as the store says."""
    paid = pipeline.created
    with pytest.raises(LedgerError, match=r"is older than file:.*Run `flux-pipeline reindex`"):
        pipeline.make(requests)
    result = verify(pipeline.producer)
    assert MARK in result.ids(Kind.ORPHANED)
    assert any("flux-pipeline reindex" in each.message for each in result.findings)

    done = reindex(pipeline.store, pipeline.ledger)

    assert (done.rows, done.failed) == (0, {})
    assert pipeline.make(requests) == Tally(asked=len(requests), unchanged=len(requests))
    assert pipeline.created == paid
    assert verify(pipeline.producer, deep=True).ok


def test_what_was_made_after_the_backup_is_not_paid_again(pipeline: Owned) -> None:
    requests = make_requests(9)
    pipeline.make(requests[:3])
    backup = back_up(pipeline)
    pipeline.make(requests)

    restore(pipeline, backup)

    assert_refused_and_mended(pipeline, requests)


def test_a_backup_of_an_empty_ledger_is_older_too(pipeline: Owned) -> None:
    requests = make_requests(4)
    claim_ledger(pipeline.ledger, pipeline.store, emulated=True)
    backup = back_up(pipeline)
    pipeline.make(requests)

    restore(pipeline, backup)

    assert_refused_and_mended(pipeline, requests)


def test_without_a_list_it_is_said_too(open_pipeline: Open) -> None:
    """All that the backup knows is open there, so store and ledger seem to agree."""
    pipeline = owned(open_pipeline, None, NO_LIST)
    requests = make_requests(3)
    claim_ledger(pipeline.ledger, pipeline.store, emulated=True)
    for request in requests:
        accept(pipeline, request)
    backup = back_up(pipeline)
    pipeline.make(requests)

    restore(pipeline, backup)

    assert states(pipeline) == [State.ACCEPTED] * 3
    assert_refused_and_mended(pipeline, requests)


def test_whatever_the_backup_has_of_them_is_corrected(open_pipeline: Open) -> None:
    """Written, accepted, held, and proven never to have been sent: all of it is stored by now."""
    pipeline = owned(open_pipeline, None, NO_LIST)
    requests = make_requests(4)
    claim_ledger(pipeline.ledger, pipeline.store, emulated=True)
    for request, state in zip(requests, (State.HELD, State.UNSENT), strict=False):
        attempt = intend(pipeline, request)
        assert pipeline.ledger.close(attempt, state, holder="dead")
    intend(pipeline, requests[2])
    accept(pipeline, requests[3])
    backup = back_up(pipeline)
    resend(pipeline.ledger, find_held(pipeline.ledger))
    pipeline.make(requests)
    known = verify(pipeline.producer).ids(Kind.PAID_TWICE)

    restore(pipeline, backup)

    before = [State.ACCEPTED, State.HELD, State.INTENT, State.UNSENT]
    assert sorted(states(pipeline)) == before
    assert len(known) == 2, "the two that had no answer and were sent again"
    assert_refused_and_mended(pipeline, requests)


def test_a_run_that_was_killed_leaves_no_mark_and_the_store_is_asked(pipeline: Owned) -> None:
    """Its images are in the store, and no run has ended since the backup."""
    requests = make_requests(4)
    pipeline.make(requests[:1])
    backup = back_up(pipeline)
    assert unmarked(pipeline).run(requests).stored == 3

    restore(pipeline, backup)
    tally = pipeline.make(requests)

    assert (tally.created, tally.stored, pipeline.created) == (0, 0, 4)
    (report,) = pipeline.reports
    reasons = {each.reason for each in report.results if each.reason}
    assert any("run `flux-pipeline reindex`" in reason for reason in reasons)
    reindex(pipeline.store, pipeline.ledger)
    assert pipeline.make(requests) == Tally(asked=4, unchanged=4)


def test_one_that_is_open_in_an_older_ledger_and_recorded_is_named_by_itself(
    pipeline: Owned,
) -> None:
    """Where the marks don't tell, because the run that stored it was killed at its end."""
    requests = make_requests(2)
    accept(pipeline, requests[0])
    backup = back_up(pipeline)
    unmarked(pipeline).run(requests)

    restore(pipeline, backup)

    result = verify(pipeline.producer)
    assert requests[0].request_sha256 in result.ids(Kind.ORPHANED)
    reindex(pipeline.store, pipeline.ledger)
    assert verify(pipeline.producer).ok


def test_a_database_server_is_told_in_the_same_way(
    pipeline: Owned, postgres: PostgresServer
) -> None:
    requests = make_requests(6)
    pipeline.ledger.dispose()
    with open_ledger(postgres.create_database(), lease_seconds=POLICY.lease) as pipeline.ledger:
        pipeline.make(requests[:2])
        backup = _dump(pipeline)
        pipeline.make(requests)
        _load(pipeline, backup)

        assert_refused_and_mended(pipeline, requests)


def _dump(pipeline: Pipeline) -> dict[str, list[dict[str, object]]]:
    with pipeline.ledger.transaction() as tx:
        return {
            table.name: [dict(row) for row in tx.connection.execute(sa.select(table)).mappings()]
            for table in METADATA.sorted_tables
        }


def _load(pipeline: Pipeline, rows: dict[str, list[dict[str, object]]]) -> None:
    with pipeline.ledger.transaction() as tx:
        for table in METADATA.sorted_tables:
            tx.connection.execute(table.delete())
            if rows[table.name]:
                tx.connection.execute(table.insert(), rows[table.name])
