"""A timestamp authority: what it gives, and that its failure keeps no image from being signed."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flux_pipeline.errors import SigningError
from flux_pipeline.images.c2pa import inspect_manifest
from flux_pipeline.images.signing import ManifestSigner, load_credentials
from tests.images.certificates import Files, issue
from tests.images.test_signing import BODY, LABEL, held_key, must_open
from tests.images.timestamp_authority import Authority, running_authority

pytest.importorskip("c2pa", reason="c2pa is missing: pip install 'flux-pipeline[c2pa]'")


@pytest.fixture
def studio(tmp_path: Path) -> Files:
    return issue(tmp_path / "studio")


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    if shutil.which("openssl") is None:
        pytest.skip("OpenSSL is missing: apt-get install openssl")
    with running_authority(tmp_path / "authority") as server:
        yield server


def timestamp(body: bytes) -> str:
    manifest = inspect_manifest(body)
    assert manifest is not None
    assert manifest.valid
    return manifest.timestamp


def test_an_authority_gives_the_time(studio: Files, authority: Authority) -> None:
    signer = must_open(*studio.paths, authority.url)
    assert authority.asked == 0
    assert timestamp(signer.sign(BODY, LABEL)).startswith("20")
    assert authority.asked == 1


def test_an_authority_that_fails_stops_nothing_and_is_left_alone_for_a_while(
    studio: Files, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0
    signer = ManifestSigner(load_credentials(*studio.paths), authority.url, clock=lambda: now)
    authority.works = False
    signed = [signer.sign(BODY, LABEL) for _ in range(3)]
    assert [timestamp(body) for body in signed] == [""] * 3
    assert authority.asked == 1
    now += 301
    signer.sign(BODY, LABEL)
    assert authority.asked == 2
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("flux_pipeline")]
    assert len(ours) == 1
    assert "timestamp authority 127.0.0.1 gave none" in ours[0]
    assert "503" in ours[0]

    authority.works = True
    assert timestamp(signer.sign(BODY, LABEL)) == ""
    now += 301
    assert timestamp(signer.sign(BODY, LABEL)).startswith("20")


def test_an_authority_that_is_not_there_stops_nothing(
    studio: Files, caplog: pytest.LogCaptureFixture
) -> None:
    signer = must_open(*studio.paths, "http://127.0.0.1:9/a-path")
    assert timestamp(signer.sign(BODY, LABEL)) == ""
    assert "a-path" not in caplog.text


def test_an_authority_is_not_blamed_for_the_key(
    studio: Files,
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sign, answers = held_key(studio), [b""] * 2
    credentials = replace(
        load_credentials(*studio.paths),
        key=None,
        sign=lambda data: answers.pop() if answers else sign(data),
    )
    signer = ManifestSigner(credentials, authority.url)
    with pytest.raises(SigningError):
        signer.sign(BODY, LABEL)
    assert timestamp(signer.sign(BODY, LABEL)).startswith("20")
    assert [r for r in caplog.records if r.name.startswith("flux_pipeline")] == []
