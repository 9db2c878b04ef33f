"""Images that are signed before they are stored: paid once, kept once, found again."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from flux_pipeline.audit.reindex import reindex
from flux_pipeline.audit.verify import verify
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.errors import ConfigError, SigningError, StoreError
from flux_pipeline.images.c2pa import read_manifest
from flux_pipeline.images.formats import image_sha256
from flux_pipeline.images.labels import Label, read_label
from flux_pipeline.images.signing import ManifestSigner, open_signer
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.produce.report import PartitionReport, Tally
from flux_pipeline.request import Request
from flux_pipeline.resources import ImageProducer
from flux_pipeline.store.base import Store, StoredObject
from tests.images.certificates import Files, issue
from tests.produce.pipeline import Pipeline, make_requests
from tests.servers.processes import Death, run_command

pytest.importorskip("c2pa", reason="c2pa is missing: pip install 'flux-pipeline[c2pa]'")
CONFIG = """
model: lucataco/flux-schnell-lora
defaults: {output_format: png, aspect_ratio: "9:21"}
prompts: {fox: a fox, owl: an owl}
"""


@pytest.fixture
def studio(tmp_path: Path) -> Files:
    return issue(tmp_path / "studio")


@pytest.fixture
def signer(studio: Files) -> ManifestSigner:
    opened = open_signer(*studio.paths)
    assert opened is not None
    return opened


def run(
    pipeline: Pipeline, requests: list[Request], signer: ManifestSigner, **changes: object
) -> PartitionReport:
    producer = replace(pipeline.producer, signer=signer, **changes)  # type: ignore[arg-type]
    with producer.stream([("p", requests)], run=RunContext("run", "set/images")) as reports:
        (report,) = reports
    return report


@pytest.mark.parametrize("image_format", ["png", "jpg", "webp"])
def test_every_image_is_stored_signed(
    image_format: str, pipeline: Pipeline, signer: ManifestSigner
) -> None:
    requests = make_requests(8, output_format=image_format)
    report = run(pipeline, requests, signer)

    assert (report.tally.stored, pipeline.created) == (8, 8)
    for record in report.records:
        assert record.uri is not None
        key = record.uri.removeprefix(f"{pipeline.store.uri}/")
        body, stored = pipeline.store.get(key), pipeline.store.head(key)
        label = read_manifest(body)
        assert stored is not None
        assert label is not None
        assert (label.prediction_id, label.prompt) == (record.prediction_id, record.prompt)
        assert label.image_sha256 == record.image_sha256 == image_sha256(body)
        assert record.file_sha256 == stored.metadata["file-sha256"] == sha256(body).hexdigest()
        assert record.bytes == len(body)
    assert verify(pipeline.producer, deep=True).ok


def test_a_prompt_that_is_kept_out_of_files_is_kept_out_of_manifests(
    pipeline: Pipeline, signer: ManifestSigner
) -> None:
    run(pipeline, make_requests(1), signer, embed_prompt=False)
    (key,) = pipeline.store.list("images/")
    body = pipeline.store.get(key)
    label = read_manifest(body)
    assert label is not None
    assert label.prompt is None
    assert b"prompt 0" not in body


def test_ledger_and_lineage_are_made_again_from_signed_images(
    pipeline: Pipeline, signer: ManifestSigner
) -> None:
    requests = make_requests(3)
    run(pipeline, requests, signer)
    for part in list(pipeline.store.list("lineage/")):
        (pipeline.folder / "store" / part).unlink()
    assert reindex(pipeline.store, pipeline.ledger).failed == {}
    assert verify(pipeline.producer).ok
    assert run(pipeline, requests, signer).tally == Tally(asked=3, unchanged=3)


class Away(ManifestSigner):
    """A key service that is away for the first so many images."""

    def __init__(self, signer: ManifestSigner, failures: int) -> None:
        self.signer, self.failures = signer, failures

    def sign(self, body: bytes, label: Label, *, parent: bytes | None = None) -> bytes:
        self.failures -= 1
        if self.failures >= 0:
            raise SigningError("the key service is away")
        return self.signer.sign(body, label, parent=parent)


def test_an_image_waits_for_a_key_that_is_away(pipeline: Pipeline, signer: ManifestSigner) -> None:
    report = run(pipeline, make_requests(4), Away(signer, failures=2))
    assert (report.tally.stored, pipeline.created) == (4, 4)


def test_an_image_that_could_not_be_signed_is_kept_by_id_and_never_paid_twice(
    pipeline: Pipeline, signer: ManifestSigner
) -> None:
    requests = make_requests(2)
    report = run(pipeline, requests, Away(signer, failures=1000))
    assert report.tally.failed == 2
    assert all("the key service is away" in (r.error or "") for r in report.records)
    assert list(pipeline.store.list("images/")) == []

    pipeline.reopen()
    assert run(pipeline, requests, signer).tally.stored == 2
    assert pipeline.created == 2


class AnswerLost:
    """A store that writes every image, and is gone before it can say so."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def put_new(self, key: str, body: bytes, **given: Any) -> tuple[StoredObject, bool]:
        self.store.put_new(key, body, **given)
        raise StoreError("connection lost")


def test_an_image_that_was_stored_in_an_unfinished_run_is_taken_for_our_own(
    pipeline: Pipeline, signer: ManifestSigner
) -> None:
    """Signed again it has other bytes: the pixels and the request say that it is the same."""
    requests = make_requests(2)
    report = run(pipeline, requests, signer, store=AnswerLost(pipeline.store))
    assert report.tally.failed == 2
    before = {key: pipeline.store.get(key) for key in pipeline.store.list("images/")}
    assert len(before) == 2

    pipeline.reopen()
    report = run(pipeline, requests, signer)

    assert (report.tally.stored, pipeline.created) == (2, 2)
    assert {key: pipeline.store.get(key) for key in before} == before
    stored = {sha256(body).hexdigest() for body in before.values()}
    assert {record.file_sha256 for record in report.records} == stored
    assert [record.error for record in report.records] == [None, None]
    assert verify(pipeline.producer).ok


@pytest.mark.torture
def test_a_run_killed_after_storing_a_signed_image_takes_it_for_its_own(
    tmp_path: Path, studio: Files
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tale.yaml").write_text(CONFIG)
    with EmulatorServer(EmulatorOptions(time_scale=0, render="cheap")) as server:
        environ = {
            "FLUX_PROVIDER": server.origin,
            "FLUX_API_KEY": "key-of-the-tests",
            "FLUX_SETTLE_SECONDS": "0.3",
            "FLUX_C2PA_CERT": studio.paths[0],
            "FLUX_C2PA_KEY": studio.paths[1],
        }
        killed, _ = run_command(
            ["run", "--json"],
            folder=tmp_path,
            environ=environ,
            death=Death("StoreOutput", after=True, nth=1),
        )
        before = {path: path.read_bytes() for path in (tmp_path / "data/store").rglob("*.png")}
        code, done = run_command(["run", "--json"], folder=tmp_path, environ=environ)
        assert (killed, code) == (-9, 0)
        assert done["total"]["stored"] + done["total"]["unchanged"] == 2
        assert server.usage().creates_accepted == 2
    assert before
    after = {path: path.read_bytes() for path in (tmp_path / "data/store").rglob("*.png")}
    assert before.items() <= after.items()
    assert all(read_manifest(body) == ids(read_label(body)) for body in after.values())


def ids(label: Label | None) -> Label:
    assert label is not None
    return replace(label, input="", extra={}, producer="")


def test_a_wrong_key_is_an_error_before_anything_is_opened(tmp_path: Path, studio: Files) -> None:
    producer = ImageProducer(
        store=f"file:{tmp_path}/store",
        ledger=f"sqlite:///{tmp_path}/ledger.db",
        state=str(tmp_path / "emulator"),
        c2pa_cert=studio.paths[0],
        c2pa_key=issue(tmp_path / "other").paths[1],
    )
    with pytest.raises(ConfigError, match="FLUX_C2PA_KEY"), producer.open():
        pytest.fail("it was opened")
    assert not (tmp_path / "ledger.db").exists()
    assert not (tmp_path / "emulator").exists()


def test_the_resource_brings_the_signer_in(tmp_path: Path, studio: Files) -> None:
    producer = ImageProducer(
        store=f"file:{tmp_path}/store",
        ledger=f"sqlite:///{tmp_path}/ledger.db",
        state=str(tmp_path / "emulator"),
        c2pa_cert=studio.paths[0],
        c2pa_key=studio.paths[1],
    )
    with producer.open() as opened:
        assert isinstance(opened.signer, ManifestSigner)
