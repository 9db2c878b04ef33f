"""What a file came with: found, judged, kept as our manifest's ingredient, or taken out."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from flux_pipeline.errors import SigningError
from flux_pipeline.images.c2pa import Received, check_received, inspect_manifest, read_manifest
from flux_pipeline.images.formats import (
    detect_format,
    image_sha256,
    read_structure,
    remove_boxes,
)
from flux_pipeline.images.inspection import inspect_image
from flux_pipeline.images.labels import Label, label_image, read_label
from flux_pipeline.images.signing import ManifestSigner, open_signer
from tests.images.certificates import issue
from tests.images.provider_credentials import Sign, broken, provider
from tests.images.samples import samples

library = pytest.importorskip("c2pa", reason="c2pa is missing: pip install 'flux-pipeline[c2pa]'")
FORMATS = ["rgb.png", "progressive.jpg", "alpha.webp"]
LABEL = Label(prompt="a fox", prediction_id="p", output_index=0, model="owner/name")


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> ManifestSigner:
    opened = open_signer(*issue(tmp_path_factory.mktemp("studio")).paths)
    assert opened is not None
    return opened


@pytest.fixture(scope="module")
def sign(tmp_path_factory: pytest.TempPathFactory) -> Sign:
    return provider(tmp_path_factory.mktemp("provider"))


def is_noticed(body: bytes) -> bool:
    seen = inspect_image(body, image_format=detect_format(body), width=0, height=0)
    return seen.may_be_signed


def test_a_manifest_is_noticed_and_taken_out_again_to_the_byte(
    name: str, body: bytes, sign: Sign
) -> None:
    signed = sign(body)
    assert (is_noticed(body), is_noticed(signed)) == (False, True)
    assert remove_boxes(signed) == body
    assert remove_boxes(body) == body
    assert image_sha256(signed) == image_sha256(body)


def boxes(body: bytes) -> list[int]:
    """Where the segments of JPEG's boxes begin."""
    return [chunk.start for chunk in read_structure(body).chunks if chunk.kind == b"\xeb"]


def test_a_manifest_of_several_segments_is_taken_out_of_a_jpg(signer: ManifestSigner) -> None:
    body = samples()["baseline.jpg"]
    signed = signer.sign(body, Label(prompt="x" * 200_000))
    assert len(boxes(signed)) > 3
    assert remove_boxes(signed) == body


def test_boxes_of_another_kind_are_no_manifest() -> None:
    other = b"JP\x00\x07" + b"\0\0\0\1" + b"\0\0\0\x10jumbother..."
    segment = b"\xff\xeb" + (2 + len(other)).to_bytes(2) + other
    body = samples()["baseline.jpg"]
    body = body[:2] + segment + body[2:]
    assert is_noticed(body)
    assert check_received(body) == (Received.NONE, "")


@pytest.mark.parametrize("name", FORMATS)
def test_whoever_signed_it_is_valid_while_no_byte_was_changed(
    body: bytes, sign: Sign, tmp_path: Path
) -> None:
    assert check_received(sign(body)) == (Received.VALID, "")
    changed = broken(sign(body))
    assert check_received(changed) == (Received.INVALID, "assertion.dataHash.mismatch")


@pytest.mark.parametrize("name", FORMATS)
def test_a_manifest_that_was_cut_or_overwritten_is_invalid(body: bytes, sign: Sign) -> None:
    signed = bytearray(sign(body))
    start = signed.index(b"jumdc2pa") + 40
    signed[start : start + 200] = bytes(200)
    received, why = check_received(bytes(signed))
    assert received is Received.INVALID
    assert why


@pytest.mark.parametrize("name", FORMATS)
def test_a_manifest_at_an_address_is_noticed_and_not_fetched(body: bytes, tmp_path: Path) -> None:
    signed = provider(tmp_path, address="http://127.0.0.1:9/manifest.c2pa")(body)
    assert is_noticed(signed)
    received, why = check_received(signed)
    assert received is Received.UNCHECKED
    assert "nothing is fetched" in why


@pytest.mark.parametrize("name", FORMATS)
def test_without_the_package_nothing_is_said_of_it(
    body: bytes, sign: Sign, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = sign(body)
    monkeypatch.setitem(sys.modules, "c2pa", None)
    received, why = check_received(signed)
    assert received is Received.UNCHECKED
    assert "pip install" in why


def store_of(body: bytes) -> dict[str, Any]:
    with library.Reader(f"image/{detect_format(body)}", io.BytesIO(body)) as reader:
        found: dict[str, Any] = json.loads(reader.json())
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_our_manifest_follows_theirs_and_says_that_it_was_valid(
    body: bytes, sign: Sign, signer: ManifestSigner
) -> None:
    received = sign(body)
    done = signer.sign(label_image(received, LABEL), LABEL, parent=received)

    assert (read_manifest(done), read_label(done)) == (LABEL, LABEL)
    assert image_sha256(done) == image_sha256(body)
    found = store_of(done)
    active = found["manifests"][found["active_manifest"]]
    (parent,) = active["ingredients"]
    assert parent["relationship"] == "parentOf"
    assert found["manifests"][parent["active_manifest"]]["claim_generator_info"][0]["name"] == (
        "provider"
    )
    as_received = parent["validation_results"]["activeManifest"]
    codes = {kind: {each["code"] for each in as_received[kind]} for kind in as_received}
    assert codes["success"] >= {"claimSignature.validated", "assertion.dataHash.match"}
    assert codes["failure"] == {"signingCredential.untrusted"}
    actions = [each["action"] for each in active["assertions"][0]["data"]["actions"]]
    assert actions == ["c2pa.opened", "c2pa.edited.metadata"]


@pytest.mark.parametrize("name", FORMATS)
def test_a_label_in_their_manifest_is_none_of_ours(body: bytes, sign: Sign) -> None:
    manifest = inspect_manifest(sign(body))
    assert manifest is not None
    assert (manifest.label, manifest.valid) == (None, True)


def test_a_file_that_the_library_refuses_for_its_broken_manifest_is_signed_without_it(
    signer: ManifestSigner,
) -> None:
    signed = signer.sign(samples()["baseline.jpg"], Label(prompt="x" * 200_000))
    _, second, *_ = boxes(signed)
    scattered = signed[:second] + b"\xff\xfe\x00\x04no" + signed[second:]
    assert check_received(scattered)[0] is Received.INVALID
    with pytest.raises(SigningError):
        signer.sign(scattered, LABEL)
    assert read_manifest(signer.sign(remove_boxes(scattered), LABEL)) == LABEL
