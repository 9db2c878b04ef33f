"""What is obsolete, what is kept all the same, and removals that are killed or meet a run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from flux_pipeline.audit import prune as pruning
from flux_pipeline.audit.prune import ASKED_NOW, Found, Obsolete, Pruned, find_obsolete, prune
from flux_pipeline.audit.reindex import reindex
from flux_pipeline.audit.rescue import rescue
from flux_pipeline.audit.verify import verify
from flux_pipeline.errors import StoreError
from flux_pipeline.ledger.base import Ledger, State
from flux_pipeline.ledger.sql import SqlLedger
from flux_pipeline.lineage.asked import AskedRequests, Fingerprints, asking, short_fingerprint
from flux_pipeline.lineage.frame import read_lineage
from flux_pipeline.lineage.query import Snapshot, find_exact, open_snapshot
from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.produce.plan import forecast
from flux_pipeline.produce.removal import Removal
from flux_pipeline.request import Request
from flux_pipeline.store.local import FolderStore
from flux_pipeline.store.open import open_store
from tests.produce.pipeline import Pipeline, make_requests

T = TypeVar("T")
Wanted = Sequence[Request]


def now() -> datetime:
    return datetime.now(UTC)


def ask(pipeline: Pipeline, requests: Sequence[Request]) -> None:
    """Note, as a run does at its end, that these are all that the set asks for."""
    noted = AskedRequests()
    for _, found in noted.watch([("", requests)]):
        list(found)
    noted.write(pipeline.store, "set", known=[""], run_id=f"r{now():%H%M%S%f}", now=now())


def edited(pipeline: Pipeline, count: int = 3, *, left: int = 1) -> list[Request]:
    """A set of which all but the first ``left`` prompts were taken out; returns all of them."""
    requests = make_requests(count)
    pipeline.run(requests)
    ask(pipeline, requests)
    ask(pipeline, requests[:left])
    return requests


def wanted(requests: Wanted = ()) -> Callable[[Mapping[str, object]], Fingerprints]:
    found = [short_fingerprint(each.request_sha256) for each in requests]
    return lambda _partitions: np.array(sorted(found), np.uint64)


def find(pipeline: Pipeline, *, asked: Wanted = (), **how: object) -> Found:
    given = {"reasons": {}, "now": now(), **how}
    return find_obsolete(
        pipeline.store,
        pipeline.ledger,
        read_wanted=wanted(asked),
        **given,  # type: ignore[arg-type]  # the filters that a test names
    )


def remove(pipeline: Pipeline, found: Found | None = None, archive: Path | None = None) -> Pruned:
    return prune(
        pipeline.store,
        pipeline.ledger,
        found or find(pipeline),
        now=now,
        archive=open_store(f"file:{archive}") if archive else None,
    )


def states(pipeline: Pipeline, requests: Sequence[Request]) -> list[State]:
    found = pipeline.ledger.find([each.request_sha256 for each in requests])
    return [found[each.request_sha256].state for each in requests]


def row(pipeline: Pipeline, request: Request) -> ImageRecord:
    """The row of a request that was stored or removed last."""
    return last_row(open_snapshot(pipeline.store), request)


def last_row(snapshot: Snapshot, request: Request) -> ImageRecord:
    rows = find_exact(snapshot, "request_sha256", request.request_sha256)
    return max(rows, key=lambda each: each.removed_at or each.stored_at or now())


def has_file(pipeline: Pipeline, request: Request) -> bool:
    sha = request.request_sha256[:16]
    return any(sha in key for key in pipeline.store.list("images/"))


def find_keys(pipeline: Pipeline) -> frozenset[str]:
    return frozenset(pipeline.store.list("asked/"))


def check_truth(pipeline: Pipeline, requests: Sequence[Request]) -> None:
    """Ledger, lineage and store say the same of every request."""
    snapshot, files = open_snapshot(pipeline.store), "".join(pipeline.store.list("images/"))
    for request, state in zip(requests, states(pipeline, requests), strict=True):
        status = last_row(snapshot, request).status
        there = request.request_sha256[:16] in files
        assert (state, status) == (
            (State.STORED, ImageStatus.STORED) if there else (State.PRUNED, ImageStatus.REMOVED)
        )
    result = verify(pipeline.producer, deep=True)
    assert result.ok, result.findings


def test_what_is_obsolete_is_listed_and_nothing_is_changed(pipeline: Pipeline) -> None:
    requests = edited(pipeline)
    before = list(pipeline.store.list())
    found = find(pipeline)
    assert [each.request_sha256 for each in found.obsolete] == [
        each.request_sha256 for each in requests[1:]
    ]
    assert found.files == 2
    assert found.bytes == sum(row(pipeline, each).bytes or 0 for each in requests[1:])
    assert list(pipeline.store.list()) == before
    check_truth(pipeline, requests)


def test_a_removed_picture_keeps_its_row_and_everybody_knows(pipeline: Pipeline) -> None:
    requests = edited(pipeline)
    done = remove(pipeline)
    assert (len(done.removed), done.failed, done.kept, done.stopped) == (2, {}, [], "")
    assert [has_file(pipeline, each) for each in requests] == [True, False, False]
    removed = row(pipeline, requests[1])
    assert (removed.status, removed.error) == (ImageStatus.REMOVED, pruning.WHY)
    assert removed.removed_at
    assert removed.archived_uri is None
    frame = read_lineage(pipeline.store, columns=["status", "current"])
    assert sorted(frame["status"]) == ["removed", "removed", "stored"]
    check_truth(pipeline, requests)
    reindexed = reindex(pipeline.store, pipeline.ledger)
    assert (reindexed.rows, reindexed.entries, reindexed.failed) == (0, 0, {})
    assert rescue(pipeline.producer, run_id="rescue").found == 0
    assert remove(pipeline).removed == []  # again: there is nothing more


def test_asked_for_again_it_is_planned_made_and_paid_again(pipeline: Pipeline) -> None:
    requests = edited(pipeline)
    remove(pipeline)
    plan = forecast(requests, pipeline.ledger).total
    assert (plan.unchanged, plan.pruned, plan.returned, plan.sent) == (1, 2, 0, 2)
    tally = pipeline.run(requests)
    assert (tally.unchanged, tally.stored, pipeline.created) == (1, 2, 5)
    check_truth(pipeline, requests)
    ask(pipeline, requests[:1])
    assert len(remove(pipeline).removed) == 2  # and is obsolete again
    check_truth(pipeline, requests)


def test_an_archived_picture_comes_back_with_its_own_bytes_and_for_free(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    requests = edited(pipeline)
    before = [row(pipeline, each) for each in requests]
    archive = tmp_path / "archive"
    done = remove(pipeline, archive=archive)
    assert done.archived == 2
    removed = row(pipeline, requests[1])
    assert removed.archived_uri
    assert removed.archived_uri.startswith(archive.as_uri())
    check_truth(pipeline, requests)
    plan = forecast(requests, pipeline.ledger).total
    assert (plan.pruned, plan.returned, plan.sent, plan.usd) == (0, 2, 0, 0.0)

    tally = pipeline.run(requests)
    assert (tally.unchanged, pipeline.created) == (3, 3)
    after = [row(pipeline, each) for each in requests]
    assert [each.file_sha256 for each in after] == [each.file_sha256 for each in before]
    stored = pipeline.store.head(f"images/{(after[1].uri or '').partition('/images/')[2]}")
    assert stored
    assert stored.metadata["request-sha256"] == requests[1].request_sha256
    check_truth(pipeline, requests)


def test_a_picture_whose_archived_copy_is_gone_is_made_again_and_that_is_said(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    requests = edited(pipeline)
    remove(pipeline, archive=tmp_path / "archive")
    (copy,) = (tmp_path / "archive").rglob(f"*{requests[1].request_sha256[:16]}*.jpg")
    copy.unlink()
    tally = pipeline.run(requests)
    notices = [
        notice for report in pipeline.reports for one in report.results for notice in one.notices
    ]
    assert (tally.stored, pipeline.created) == (1, 4)
    assert [notice.partition(":")[0] for notice in notices] == [
        "made again, because its archived copy is gone"
    ]
    check_truth(pipeline, requests)


def test_an_archive_that_can_not_be_asked_costs_nothing_in_its_place(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = edited(pipeline)
    archive = tmp_path / "archive"
    remove(pipeline, archive=archive)

    def head(store: FolderStore, key: str) -> object:
        if store.uri == archive.as_uri():
            raise StoreError(f"{key}: AccessDenied on HeadObject")
        return original(store, key)

    original = FolderStore.head
    monkeypatch.setattr(FolderStore, "head", head)
    tally = pipeline.run(requests)
    assert (tally.failed, pipeline.created) == (2, 3)
    monkeypatch.undo()
    assert states(pipeline, requests)[1:] == [State.PRUNED] * 2
    assert pipeline.run(requests).unchanged == 3
    check_truth(pipeline, requests)


def test_another_answer_to_a_request_is_archived_beside_the_first(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    requests = make_requests(1)
    pipeline.run(requests)
    ask(pipeline, [])
    archive = tmp_path / "archive"
    (taken,) = pipeline.store.list("images/")
    open_store(f"file:{archive}").put(taken, b"an earlier answer", content_type="image/jpeg")
    assert remove(pipeline, archive=archive).failed == {}
    assert (archive / taken).read_bytes() == b"an earlier answer"
    assert pipeline.run(requests).unchanged == 1
    check_truth(pipeline, requests)


def test_damaged_bytes_are_neither_archived_nor_removed(pipeline: Pipeline, tmp_path: Path) -> None:
    requests = edited(pipeline, 2)
    key = next(
        key for key in pipeline.store.list("images/") if requests[1].request_sha256[:16] in key
    )
    (pipeline.folder / "store" / key).write_bytes(b"damaged")
    done = remove(pipeline, archive=tmp_path / "archive")
    assert done.removed == []
    assert "the image was recorded with" in done.failed[requests[1].request_sha256]
    assert states(pipeline, requests) == [State.STORED] * 2
    assert has_file(pipeline, requests[1])


def test_reasons_keep_a_picture(pipeline: Pipeline) -> None:
    requests = edited(pipeline, 5)
    chosen = row(pipeline, requests[1]).file_sha256 or ""  # the pixels are the same here
    reasons = {chosen: "chosen", requests[2].request_sha256: "published"}
    found = find(pipeline, asked=[requests[3]], reasons=reasons)
    assert [each.request_sha256 for each in found.obsolete] == [requests[4].request_sha256]
    assert found.reasons == {"chosen": 1, "published": 1, ASKED_NOW: 1}


def test_filters_leave_the_young_the_newest_and_other_sets(pipeline: Pipeline) -> None:
    edited(pipeline, 3)
    assert find(pipeline, older_than=timedelta(days=30)).reasons == {
        "made less than 30 days ago": 2
    }
    later = now() + timedelta(days=31)
    assert find(pipeline, older_than=timedelta(days=30), now=later).files == 2
    assert find(pipeline, keep=1).reasons == {"one of the 1 newest of its prompt": 2}
    assert find(pipeline, prompt_sets=["other"]).files == 0
    assert find(pipeline, prompt_sets=["set"]).files == 2


def test_nothing_is_removed_while_a_run_reads_what_is_asked_for(pipeline: Pipeline) -> None:
    requests = edited(pipeline)
    found = find(pipeline)
    with asking(pipeline.store, "set", run_id="run-7", now=now()):  # began since it was found
        done = remove(pipeline, found)
        assert find(pipeline).running[0].run_id == "run-7"
    assert done.removed == []
    assert done.stopped.startswith("run run-7 reads what set asks for since")
    check_truth(pipeline, requests)
    assert len(remove(pipeline).removed) == 2


def test_what_a_run_has_asked_for_again_meanwhile_is_kept(pipeline: Pipeline) -> None:
    requests = edited(pipeline)
    found = find(pipeline)
    ask(pipeline, requests[:2])
    done = remove(pipeline, found)
    assert [each.request_sha256 for each in done.removed] == [requests[2].request_sha256]
    assert [each.reason for each in done.kept] == ["a run has asked for it again meanwhile"]
    check_truth(pipeline, requests)


def test_what_can_not_be_deleted_stays_as_it_was(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = edited(pipeline)

    def refuse(_store: FolderStore, key: str) -> None:
        raise StoreError(f"{key}: a lock of the bucket keeps this object")

    monkeypatch.setattr(FolderStore, "delete", refuse)
    done = remove(pipeline)
    monkeypatch.undo()
    assert set(done.failed.values()) != set()
    assert done.removed == []
    check_truth(pipeline, requests)


def test_a_removed_picture_that_is_put_back_by_hand_is_found_and_entered(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    requests = edited(pipeline, 2)
    remove(pipeline, archive=tmp_path / "archive")
    archive, store = open_store(f"file:{tmp_path / 'archive'}"), pipeline.store
    (key,) = archive.list("images/")
    found = archive.head(key)
    assert found
    store.put_new(key, archive.get(key), content_type="image/jpeg", metadata=dict(found.metadata))
    (finding,) = verify(pipeline.producer).findings
    assert "it was removed on purpose, and lies there again" in finding.message
    assert reindex(store, pipeline.ledger).entries == 1
    check_truth(pipeline, requests)


class Killed(BaseException):
    """A SIGKILL, as far as the process notices."""


@contextmanager
def killed_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Kill before the given write to store or ledger; give the writes that were made."""
    made: list[str] = []

    def count(name: str, original: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            if len(made) >= step:
                raise Killed
            made.append(name)
            return original(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for owner, name in (
            (FolderStore, "put"),
            (FolderStore, "put_new"),
            (FolderStore, "delete"),
            (SqlLedger, "transaction"),
        ):
            patch.setattr(owner, name, count(name, getattr(owner, name)))
        patch.setattr(pruning, "_THREADS", 1)
        yield made


def steps_of_a_removal(
    pipeline: Pipeline,
    found: Found,
    archive: Path | None,
    step: int,
    monkeypatch: pytest.MonkeyPatch,
) -> bool:
    """Remove until the given write; return whether that came."""
    with killed_at(step, monkeypatch) as made:
        try:
            remove(pipeline, found, archive)
        except Killed:
            return True
    return len(made) >= step


@pytest.mark.parametrize("with_archive", [False, True])
def test_killed_at_any_write_the_next_prune_makes_all_agree(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, with_archive: bool
) -> None:
    archive = tmp_path / "archive" if with_archive else None
    requests = edited(pipeline, 40)
    obsolete = find(pipeline).obsolete
    step = 0
    while True:
        found = Found(obsolete[2 * step : 2 * step + 2], asked_keys=find_keys(pipeline))
        came = steps_of_a_removal(pipeline, found, archive, step, monkeypatch)
        pipeline.reopen(later=1000.0 * (step + 1))
        remove(pipeline, Found())  # the next prune: it settles what was begun
        assert not pipeline.ledger.in_state(State.PRUNING)
        if not came:
            break
        step += 1
    assert 6 < step < 19
    check_truth(pipeline, requests)


def test_killed_at_any_write_while_it_comes_back_the_next_prune_makes_all_agree(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = edited(pipeline, 16)
    remove(pipeline, archive=tmp_path / "archive")
    came, step = True, 0
    while came:
        sha = requests[step + 1].request_sha256
        attempt = pipeline.ledger.find([sha])[sha]

        def commit(work: Callable[[Ledger], T]) -> T:
            with pipeline.ledger.transaction() as ledger:
                return work(ledger)

        removal = Removal(pipeline.store, commit, "a run", now, open_store)
        with killed_at(step, monkeypatch):
            try:
                came = removal.bring_back(attempt)[0] is None
            except Killed:
                came = True
        pipeline.reopen(later=1000.0 * (step + 1))
        remove(pipeline, Found())
        step += 1
    assert 3 <= step < 14
    rescue(pipeline.producer, run_id="rescue", older_than=0.0)  # writes the rows of the last one
    check_truth(pipeline, requests)


@pytest.mark.parametrize("step", range(3, 9))
def test_killed_at_any_write_the_next_run_loses_nothing_and_pays_for_what_is_gone_alone(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    requests = edited(pipeline)
    steps_of_a_removal(pipeline, find(pipeline), None, step, monkeypatch)
    gone = sum(not has_file(pipeline, each) for each in requests)
    pipeline.reopen(later=1000.0)
    pipeline.run(requests)
    assert states(pipeline, requests) == [State.STORED] * 3
    assert pipeline.created == 3 + gone
    check_truth(pipeline, requests)


def test_a_rescue_ends_what_a_killed_prune_has_begun(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = edited(pipeline)
    steps_of_a_removal(pipeline, find(pipeline), None, 3, monkeypatch)
    pipeline.reopen(later=1000.0)
    done = rescue(pipeline.producer, run_id="rescue", older_than=0.0)
    assert done.complete
    assert pipeline.created == 3
    check_truth(pipeline, requests)


def test_a_source_of_what_is_kept_is_kept(pipeline: Pipeline) -> None:
    def one(name: str, *sources: str) -> Obsolete:
        return Obsolete(
            request_sha256=name * 64,
            prompt_set="set",
            prompt_name=name,
            partition="",
            made_at=now(),
            bytes=1,
            uris=("file:///a",),
            hashes=frozenset({f"file-{name}"}),
            sources=frozenset(sources),
        )

    chain = [one("a"), one("b", "a" * 64), one("c", "file-b"), one("d")]
    empty = pruning.Asked(np.empty(0, np.uint64), frozenset())
    kept = pruning._find_reasons(chain, empty, {"file-c": "chosen"}, set())
    assert kept == {"a" * 64: pruning.A_SOURCE, "b" * 64: pruning.A_SOURCE, "c" * 64: "chosen"}
