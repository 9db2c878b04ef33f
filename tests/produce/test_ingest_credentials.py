"""Files that come with the provider's content credentials: kept whole, or followed by ours."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from flux_pipeline.audit.reindex import reindex
from flux_pipeline.audit.verify import verify
from flux_pipeline.errors import StoreError
from flux_pipeline.images.c2pa import inspect_manifest, read_manifest
from flux_pipeline.images.labels import parse_packet, read_label
from flux_pipeline.images.signing import open_signer
from flux_pipeline.lineage.query import find_exact, open_snapshot
from flux_pipeline.lineage.record import ImageRecord
from flux_pipeline.produce.ingest import sidecar_key, warn_unchecked
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.produce.report import Tally
from flux_pipeline.provenance.trace import answer_to
from flux_pipeline.request import Request
from flux_pipeline.store.base import Store, StoredObject
from flux_pipeline.store.open import open_store
from tests.images.certificates import issue
from tests.images.provider_credentials import Sign, broken, provider
from tests.produce.pipeline import Pipeline, change_ledger, keys, make_requests
from tests.servers.s3 import S3Server

pytest.importorskip("c2pa", reason="c2pa is missing: pip install 'flux-pipeline[c2pa]'")
FORMATS = pytest.mark.parametrize("image_format", ["png", "jpg", "webp"])
Open = Callable[..., Pipeline]


@pytest.fixture
def sign(tmp_path: Path) -> Sign:
    return provider(tmp_path / "provider")


def run(pipeline: Pipeline, requests: list[Request], **changes: object) -> Tally:
    producer = replace(pipeline.producer, **changes)  # type: ignore[arg-type]
    with producer.stream([("p", requests)], run=RunContext("run", "set/images")) as reports:
        (report,) = reports
    return report.tally


def ours(folder: Path) -> dict[str, object]:
    """The settings of a producer that signs."""
    return {"signer": open_signer(*issue(folder / "studio").paths)}


def rows(pipeline: Pipeline) -> list[ImageRecord]:
    found = find_exact(open_snapshot(pipeline.store), "prompt_set", "set", limit=None)
    return sorted(found, key=lambda row: row.prompt_name)


def body_of(pipeline: Pipeline, row: ImageRecord) -> bytes:
    return pipeline.store.get(key_of(pipeline, row))


def key_of(pipeline: Pipeline, row: ImageRecord) -> str:
    return str(row.uri).removeprefix(f"{pipeline.store.uri}/")


@FORMATS
def test_a_signed_file_is_stored_as_it_came_with_its_label_beside_it(
    image_format: str, open_pipeline: Open, sign: Sign
) -> None:
    served: list[bytes] = []

    def finish(body: bytes) -> bytes:
        served.append(sign(body))
        return served[-1]

    pipeline = open_pipeline(finish=finish)
    requests = make_requests(3, output_format=image_format)
    assert run(pipeline, requests, aigc_producer="studio").stored == 3

    for row in rows(pipeline):
        body, stored = body_of(pipeline, row), pipeline.store.head(key_of(pipeline, row))
        manifest = inspect_manifest(body)
        beside = pipeline.store.get(sidecar_key(key_of(pipeline, row)))
        label = parse_packet(beside)
        assert body in served
        assert manifest is not None
        assert manifest.valid
        assert (row.credentials, row.error) == ("kept", None)
        assert row.file_sha256 == sha256(body).hexdigest()
        assert stored is not None
        assert stored.metadata["credentials"] == "kept"
        assert stored.metadata["prediction-id"] == row.prediction_id
        assert label is not None
        assert (label.prediction_id, label.prompt) == (row.prediction_id, row.prompt)
        assert b"TC260:AIGC" in beside
    assert verify(pipeline.producer, deep=True).ok
    assert run(pipeline, requests) == Tally(asked=3, unchanged=3)


@FORMATS
def test_where_we_sign_their_manifest_is_the_ingredient_of_ours(
    image_format: str, open_pipeline: Open, sign: Sign, tmp_path: Path
) -> None:
    pipeline = open_pipeline(finish=sign)
    requests = make_requests(2, output_format=image_format)
    assert run(pipeline, requests, aigc_producer="studio", **ours(tmp_path)).stored == 2

    for row in rows(pipeline):
        body = body_of(pipeline, row)
        signed, label = read_manifest(body), read_label(body)
        assert row.credentials == "ours"
        assert signed is not None
        assert signed.prediction_id == row.prediction_id
        assert label is not None
        assert label.producer == "studio"
        assert body.count(b"jumdc2ma") == 2  # two manifests: theirs and ours
    assert keys(pipeline, "sidecars/") == []
    assert verify(pipeline.producer, deep=True).ok


@FORMATS
@pytest.mark.parametrize("we_sign", [False, True])
def test_a_broken_manifest_is_said_and_the_file_is_labelled_as_one_without(
    image_format: str, we_sign: bool, open_pipeline: Open, sign: Sign, tmp_path: Path
) -> None:
    pipeline = open_pipeline(finish=lambda body: broken(sign(body)))
    signing = ours(tmp_path) if we_sign else {}
    assert run(pipeline, make_requests(1, output_format=image_format), **signing).stored == 1

    (row,) = rows(pipeline)
    label = read_label(body_of(pipeline, row))
    assert row.credentials == "invalid as received"
    assert row.error == (
        "its content credentials were invalid as received (assertion.dataHash.mismatch)"
    )
    assert label is not None
    assert label.prediction_id == row.prediction_id
    assert (read_manifest(body_of(pipeline, row)) is not None) is we_sign
    assert verify(pipeline.producer, deep=True).ok


def test_a_jpg_that_can_not_be_signed_for_its_broken_manifest_is_signed_without_it(
    open_pipeline: Open, sign: Sign, tmp_path: Path
) -> None:
    """Its manifest no longer says that it is one, and the native library refuses the file."""
    signing = ours(tmp_path)
    pipeline = open_pipeline(finish=lambda body: sign(body).replace(b"jumdc2pa", b"jumdnone"))
    assert run(pipeline, make_requests(1), **signing).stored == 1
    (row,) = rows(pipeline)
    assert row.credentials == "ours"
    assert read_manifest(body_of(pipeline, row)) is not None


def test_a_file_without_credentials_has_none_or_ours(pipeline: Pipeline, tmp_path: Path) -> None:
    one, other = make_requests(2)
    run(pipeline, [one])
    run(pipeline, [other], **ours(tmp_path))
    assert [row.credentials for row in rows(pipeline)] == ["none", "ours"]


def test_a_manifest_at_an_address_is_kept_or_followed_and_never_fetched(
    open_pipeline: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sign = provider(tmp_path / "provider", address="http://127.0.0.1:9/manifest.c2pa")
    pipeline = open_pipeline(finish=sign)
    one, other = make_requests(2)
    warn_unchecked.cache_clear()
    with caplog.at_level(logging.WARNING):
        run(pipeline, [one])
        run(pipeline, [other], **ours(tmp_path))
    kept, followed = rows(pipeline)
    assert (kept.credentials, followed.credentials) == ("kept", "ours")
    assert b"http://127.0.0.1:9/manifest.c2pa" in body_of(pipeline, kept)
    assert read_manifest(body_of(pipeline, followed)) is not None
    assert caplog.text.count("nothing is fetched") == 1


def test_without_the_package_a_manifest_is_kept_unchecked_and_that_is_logged_once(
    open_pipeline: Open,
    sign: Sign,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    files = {}

    def finish(body: bytes) -> bytes:
        with monkeypatch.context() as installed:
            installed.setitem(sys.modules, "c2pa", native)
            return files.setdefault(body, sign(body))

    native = sys.modules["c2pa"]
    pipeline = open_pipeline(finish=finish)
    monkeypatch.setitem(sys.modules, "c2pa", None)
    warn_unchecked.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert run(pipeline, make_requests(2)).stored == 2
    assert {row.credentials for row in rows(pipeline)} == {"kept"}
    assert {body_of(pipeline, row) for row in rows(pipeline)} == set(files.values())
    assert caplog.text.count("pip install 'flux-pipeline[c2pa]'") == 1


@contextmanager
def lost(pipeline: Pipeline) -> Iterator[list[ImageRecord]]:
    """Ledger and lineage are gone; the rows that were there."""
    before = rows(pipeline)
    for part in keys(pipeline, "lineage/"):
        (pipeline.folder / "store" / part).unlink()
    change_ledger(pipeline, "DELETE FROM flux_attempts")
    yield [replace(row, stored_at=None, polls=0) for row in before]


def test_rows_of_files_that_were_kept_are_made_again_from_the_labels_beside_them(
    open_pipeline: Open, sign: Sign, tmp_path: Path
) -> None:
    pipeline = open_pipeline(finish=sign)
    one, other = make_requests(2)
    run(pipeline, [one])
    run(pipeline, [other], **ours(tmp_path))
    with lost(pipeline) as before:
        assert reindex(pipeline.store, pipeline.ledger).failed == {}
        assert rows(pipeline) == before
    assert [row.credentials for row in before] == ["kept", "ours"]
    assert verify(pipeline.producer, deep=True).ok
    assert run(pipeline, [one, other]) == Tally(asked=2, unchanged=2)


def test_a_kept_file_is_known_again_by_its_own_bytes(
    open_pipeline: Open, sign: Sign, tmp_path: Path
) -> None:
    """The emulator's cheap pictures all have the same pixels, and no label tells them apart."""
    pipeline = open_pipeline(finish=sign)
    run(pipeline, make_requests(4))
    snapshot = open_snapshot(pipeline.store)
    for row in rows(pipeline):
        path = tmp_path / "found.jpg"
        path.write_bytes(body_of(pipeline, row))
        for target in (str(path), str(row.file_sha256), key_of(pipeline, row)):
            answer, _ = answer_to(pipeline.store, snapshot, target)
            assert answer is not None
            assert answer.record is not None
            assert answer.certainty == "certain"
            assert answer.record.prediction_id == row.prediction_id
            assert answer.values["credentials"] == "kept"


class AnswerLost:
    """A store that writes every image, and is gone before it can say so."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def put_new(self, key: str, body: bytes, **given: Any) -> tuple[StoredObject, bool]:
        self.store.put_new(key, body, **given)
        raise StoreError("connection lost")


def test_an_image_that_an_unfinished_run_kept_is_found_with_its_credentials_and_gets_its_label(
    open_pipeline: Open, sign: Sign, tmp_path: Path
) -> None:
    pipeline = open_pipeline(finish=sign)
    requests = make_requests(2)
    assert run(pipeline, requests, store=AnswerLost(pipeline.store)).failed == 2
    before = {key: pipeline.store.get(key) for key in keys(pipeline, "images/")}
    assert (len(before), keys(pipeline, "sidecars/")) == (2, [])

    pipeline.reopen()
    # The finishing run signs, the first one did not: what is stored says what it is.
    assert run(pipeline, requests, **ours(tmp_path)).stored == 2

    assert {key: pipeline.store.get(key) for key in before} == before
    assert [(row.credentials, row.error) for row in rows(pipeline)] == [("kept", None)] * 2
    with lost(pipeline) as recorded:
        assert reindex(pipeline.store, pipeline.ledger).failed == {}
        assert rows(pipeline) == recorded
    assert pipeline.created == 2


def test_a_bucket_holds_the_credentials_of_every_kind_and_gives_the_rows_back(
    open_pipeline: Open, sign: Sign, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_broken: list[bool] = []
    pipeline = open_pipeline(finish=lambda body: broken(sign(body)) if is_broken else sign(body))
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    pipeline.store = open_store(f"s3://{s3_server.new_bucket()}/pictures")
    one, other = make_requests(2)
    run(pipeline, [one])
    is_broken.append(True)
    run(pipeline, [other])
    stored = [pipeline.store.head(key) for key in keys(pipeline, "images/")]
    kinds = ["kept", "invalid as received"]
    assert [found.metadata["credentials"] for found in stored if found] == kinds

    before = [replace(row, stored_at=None, polls=0) for row in rows(pipeline)]
    change_ledger(pipeline, "DELETE FROM flux_attempts")
    bare = open_store(f"s3://{s3_server.new_bucket()}/pictures")
    for key in [*keys(pipeline, "images/"), *keys(pipeline, "sidecars/")]:
        found = pipeline.store.head(key)
        assert found is not None
        kind, metadata = found.content_type, found.metadata
        bare.put_new(key, pipeline.store.get(key), content_type=kind, metadata=metadata)
    pipeline.store = bare
    assert reindex(pipeline.store, pipeline.ledger).failed == {}
    found_again = [replace(row, uri=None) for row in rows(pipeline)]
    assert found_again == [replace(row, uri=None) for row in before]
    assert [row.credentials for row in found_again] == kinds
