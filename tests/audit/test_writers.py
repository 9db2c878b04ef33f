"""A store with one writer is one ledger's: whichever comes second is refused before it sends."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flux_pipeline.audit.ownership import MARK, check_store, claim_ledger, take_store
from flux_pipeline.audit.reindex import reindex
from flux_pipeline.audit.verify import verify
from flux_pipeline.audit.writers import WRITERS, announce_writer, check_only_writer
from flux_pipeline.errors import StoreError, WrongStore
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.sql import SqlLedger
from flux_pipeline.resources import ImageProducer
from flux_pipeline.store.base import Store
from flux_pipeline.store.open import open_store
from flux_pipeline.store_options import StoreOptions
from tests.produce.pipeline import Pipeline, make_requests
from tests.servers.s3 import S3Server
from tests.servers.s3_proxy import Reply, S3Proxy, Seen, s3_error, s3_proxy

claim = partial(claim_ledger, emulated=True, only_writer=True)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[SqlLedger]:
    with open_ledger(f"sqlite:///{tmp_path}/other.db") as ledger:
        yield ledger


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[S3Proxy, str]]:
    """A server that refuses conditional writes, and a bucket on it."""

    def refuse(seen: Seen) -> Reply | None:
        return s3_error(501, "NotImplemented") if "if-none-match" in seen.headers else None

    with s3_proxy(s3_server.endpoint) as proxy:
        proxy.choose = refuse
        for name, value in s3_server.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        yield proxy, f"s3://{s3_server.new_bucket()}/pictures"


def test_the_first_ledger_writes_and_a_second_one_is_refused(
    pipeline: Pipeline, other: SqlLedger
) -> None:
    claim(pipeline.ledger, pipeline.store)
    pipeline.run(make_requests(2))
    before = list(pipeline.store.list())

    for refused in (check_store, claim_ledger):
        with pytest.raises(WrongStore, match=r"written by another ledger.*reindex --take-store"):
            refused(other, pipeline.store, emulated=True, only_writer=True)

    assert list(pipeline.store.list()) == before
    claim(pipeline.ledger, pipeline.store)


def test_a_second_ledger_is_refused_although_nothing_was_made_yet(
    pipeline: Pipeline, other: SqlLedger
) -> None:
    claim(pipeline.ledger, pipeline.store)
    with pytest.raises(WrongStore, match="written by another ledger"):
        claim(other, pipeline.store)


def test_of_two_ledgers_that_come_at_once_at_most_one_writes(
    pipeline: Pipeline, other: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one announces itself between this one's look and its announcement."""
    store = pipeline.store
    put = type(store).put

    def announce_before(given: Store, key: str, *more: Any, **named: Any) -> Any:
        monkeypatch.setattr(type(store), "put", put)
        announce_writer(other, store)
        return put(store, key, *more, **named)

    monkeypatch.setattr(type(store), "put", announce_before)
    with pytest.raises(WrongStore):
        announce_writer(pipeline.ledger, store)
    with pytest.raises(WrongStore):
        check_only_writer(other, store)

    take_store(other, store, only_writer=True)

    check_only_writer(other, store)
    with pytest.raises(WrongStore):
        announce_writer(pipeline.ledger, store)


def test_workers_that_share_a_ledger_come_at_once_and_agree(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    with ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        workers = [
            stack.enter_context(open_ledger(f"sqlite:///{tmp_path}/ledger.db")) for _ in range(8)
        ]
        list(pool.map(lambda ledger: claim(ledger, pipeline.store), workers))
        assert len({ledger.identify() for ledger in workers}) == 1
    assert len(list(pipeline.store.list(WRITERS))) == 1
    pipeline.run(make_requests(2))
    assert verify(pipeline.producer).ok


def test_after_the_loss_of_a_ledger_a_person_lets_a_new_one_go_on(
    pipeline: Pipeline, other: SqlLedger
) -> None:
    claim(pipeline.ledger, pipeline.store)
    pipeline.run(make_requests(2))

    take_store(other, pipeline.store, only_writer=True)
    reindex(pipeline.store, other)

    claim(other, pipeline.store)
    with pytest.raises(WrongStore, match="written by another ledger"):
        claim(pipeline.ledger, pipeline.store)
    # And back again, as where the lost one was found.
    take_store(pipeline.ledger, pipeline.store, only_writer=True)
    claim(pipeline.ledger, pipeline.store)
    with pytest.raises(WrongStore, match="written by another ledger"):
        claim(other, pipeline.store)


def test_an_announcement_that_cannot_be_read_is_named(pipeline: Pipeline, other: SqlLedger) -> None:
    claim(pipeline.ledger, pipeline.store)
    (own,) = pipeline.store.list(WRITERS)
    take_store(other, pipeline.store, only_writer=True)
    for text in (b"", b"[]", b"{}"):
        pipeline.store.put(own, text, content_type="application/json")
        with pytest.raises(StoreError, match=f"{own}: is not what was written there"):
            check_only_writer(pipeline.ledger, pipeline.store)


def test_a_store_of_many_writers_has_no_announcements(pipeline: Pipeline) -> None:
    claim_ledger(pipeline.ledger, pipeline.store, emulated=True)
    assert list(pipeline.store.list()) == [MARK]


def test_a_server_without_conditional_writes_is_used_by_one_ledger_alone(
    bucket: tuple[S3Proxy, str], tmp_path: Path
) -> None:
    _, uri = bucket
    resource = ImageProducer(
        store=uri,
        ledger=f"sqlite:///{tmp_path}/ledger.db",
        state=str(tmp_path / "emulator"),
        spool=str(tmp_path / "spool"),
    )
    with pytest.raises(StoreError, match="set FLUX_STORE_WRITERS=one"), resource.open():
        pass
    only = resource.model_copy(update={"store_options": {"writers": "one"}})
    for _ in range(2):
        with only.open() as producer:
            assert producer.store.uri == uri
    second = only.model_copy(update={"ledger": f"sqlite:///{tmp_path}/second.db"})
    with pytest.raises(WrongStore, match="written by another ledger"), second.open():
        pass


def test_images_are_made_and_proven_on_a_server_without_conditional_writes(
    bucket: tuple[S3Proxy, str], pipeline: Pipeline
) -> None:
    proxy, uri = bucket
    pipeline.store = open_store(uri, StoreOptions(writers="one", sse="AES256", tags="team=art"))
    pipeline.store.check()
    claim(pipeline.ledger, pipeline.store)
    proxy.seen.clear()

    pipeline.run(make_requests(4))

    assert verify(pipeline.producer, deep=True).ok
    puts = [each.headers for each in proxy.seen if each.method == "PUT"]
    assert {each["x-amz-server-side-encryption"] for each in puts} == {"AES256"}
    assert {each["x-amz-tagging"] for each in puts} == {"team=art"}
    assert not [each for each in puts if "if-none-match" in each]
    images = [each for each in proxy.seen if "/images/" in each.path and each.method == "PUT"]
    assert len(images) == len({each.path for each in images}) == 4
    pipeline.run(make_requests(4))
    assert pipeline.server.usage().creates_received == 4
