"""What is signed comes back, and nothing that was changed since is believed."""

import io
import json
import socket
import sys
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from flux_pipeline.errors import ImageError
from flux_pipeline.images import c2pa
from flux_pipeline.images.c2pa import inspect_manifest, read_manifest
from flux_pipeline.images.formats import detect_format, image_sha256
from flux_pipeline.images.inspection import inspect_image
from flux_pipeline.images.labels import Label, label_image, read_label
from flux_pipeline.images.signing import ManifestSigner, open_signer
from tests.images.certificates import issue
from tests.images.samples import encode, insert_xmp, picture, pixels, samples, strip_xmp
from tests.images.strategies import LABELS

library = pytest.importorskip("c2pa", reason="c2pa is missing: pip install 'flux-pipeline[c2pa]'")
FORMATS = ["rgb.png", "progressive.jpg", "alpha.webp"]
UNKNOWN_SIGNER = "signingCredential.untrusted"


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> ManifestSigner:
    opened = open_signer(*issue(tmp_path_factory.mktemp("studio")).paths)
    assert opened is not None
    return opened


@pytest.fixture(scope="module")
def signed(signer: ManifestSigner) -> dict[str, bytes]:
    """A signed file of each format."""
    label = Label(prompt="a fox", prediction_id="p", output_index=0, run_id="run")
    return {name: signer.sign(label_image(samples()[name], label), label) for name in FORMATS}


def ids(label: Label) -> Label:
    """What of a label a manifest holds."""
    return replace(label, input="", extra={}, producer="")


def contents(body: bytes) -> dict[str, Any]:
    with library.Reader(f"image/{detect_format(body)}", io.BytesIO(body)) as reader:
        found = json.loads(reader.json())
    manifest: dict[str, Any] = found["manifests"][found["active_manifest"]]
    return manifest


@pytest.mark.parametrize("name", FORMATS)
def test_manifest_says_that_a_model_made_it_and_names_it(
    body: bytes, label: Label, signer: ManifestSigner
) -> None:
    manifest = contents(signer.sign(label_image(body, label), label))
    created, ours = (each["data"] for each in manifest["assertions"])
    assert created["actions"] == [
        {
            "action": "c2pa.created",
            "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/"
            "trainedAlgorithmicMedia",
            "softwareAgent": {"name": label.model, "version": label.version},
            "when": "2026-11-22T19:30:05.123456+00:00",
        }
    ]
    assert ours.pop("created_at") == "2026-11-22T19:30:05.123456+00:00"
    assert ours == {name: getattr(label, name) for name in ours}
    assert manifest["claim_generator_info"][0]["name"] == "flux-pipeline"
    assert "thumbnail" not in manifest


def test_label_comes_back_and_the_pixels_are_kept(
    body: bytes, label: Label, signer: ManifestSigner
) -> None:
    labelled = label_image(body, label)
    done = signer.sign(labelled, label)
    assert read_manifest(done) == ids(label)
    assert read_label(done) == label
    assert image_sha256(done) == image_sha256(body)
    assert pixels(done) == pixels(body)
    manifest = inspect_manifest(done)
    assert manifest is not None
    assert (manifest.valid, manifest.problems) == (True, (UNKNOWN_SIGNER,))
    assert manifest.signed_by == "Studio Pictures, Studio"


def test_a_signed_file_passes_the_inspection(signed: dict[str, bytes]) -> None:
    for name, done in signed.items():
        kind = name.rpartition(".")[2]
        found = inspect_image(done, image_format=kind, width=60, height=45)
        assert found.flags == ()
        assert found.image_sha256 == image_sha256(samples()[name])


@settings(max_examples=15)
@given(name=st.sampled_from(FORMATS), label=LABELS)
@example(name="rgb.png", label=Label(prompt="\ud800", run_id="\ud83d"))
@example(name="progressive.jpg", label=Label(prompt="雪" * 50_000, run_id="run"))
def test_every_label_can_be_signed(name: str, label: Label, signer: ManifestSigner) -> None:
    done = signer.sign(samples()[name], label)
    written = {
        each.name: value.encode("utf-8", "backslashreplace").decode()
        for each in fields(Label)
        if isinstance(value := getattr(label, each.name), str)
    }
    expected = ids(replace(label, **written))  # type: ignore[arg-type]
    if label.seed == 2**63:
        expected = replace(expected, seed=None)
    if label.output_index == 2**63:
        expected = replace(expected, output_index=None)
    found = read_manifest(done)
    assert found is not None
    # A text that says nothing is not written, as in XMP.
    assert replace(found, prompt=found.prompt or "", prediction_id=found.prediction_id or "") == (
        replace(expected, prompt=expected.prompt or "", prediction_id=expected.prediction_id or "")
    )


@pytest.mark.parametrize("name", FORMATS)
def test_a_prompt_that_is_kept_out_of_the_file_is_not_in_the_manifest(
    body: bytes, label: Label, signer: ManifestSigner
) -> None:
    label = replace(label, prompt=None)
    done = signer.sign(label_image(body, label), label)
    found = read_manifest(done)
    assert found == ids(label)
    assert "frosted" not in json.dumps(contents(done))
    assert b"frosted" not in done


@settings(max_examples=50)
@given(name=st.sampled_from(FORMATS), where=st.floats(0, 1, exclude_max=True), data=st.data())
def test_a_changed_byte_is_never_believed(
    name: str, where: float, data: st.DataObject, signed: dict[str, bytes]
) -> None:
    """A byte of the padding, which no hash covers, may change; what is said may not."""
    changed = bytearray(signed[name])
    changed[int(where * len(changed))] ^= data.draw(st.integers(1, 255))
    try:
        found = read_manifest(bytes(changed))
    except ImageError:
        return
    assert found in {None, read_manifest(signed[name])}


def test_what_was_changed_is_named(signed: dict[str, bytes]) -> None:
    for name, done in signed.items():
        in_label = bytearray(done)
        in_label[done.index(b"run_id")] ^= 1
        elsewhere = insert_xmp(done, b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>")
        assert "assertion.hashedURI.mismatch" in problems(bytes(in_label), name)
        assert "assertion.dataHash.mismatch" in problems(elsewhere, name)
        assert problems(strip_xmp(done), name) >= {"assertion.dataHash.mismatch"}


def problems(body: bytes, name: str) -> set[str]:
    manifest = inspect_manifest(body)
    assert manifest is not None, name
    assert not manifest.valid, name
    assert read_manifest(body) is None
    return set(manifest.problems)


def test_a_manifest_on_another_image_is_not_believed(signer: ManifestSigner, label: Label) -> None:
    done = signer.sign(samples()["lossy.webp"], label)
    other = encode(picture(seed=9), "WEBP")
    start = done.index(b"C2PA")
    moved = bytearray(label_image(other, Label(run_id="r")) + done[start:])
    moved[4:8] = (len(moved) - 8).to_bytes(4, "little")
    assert "assertion.dataHash.mismatch" in problems(bytes(moved), "moved")


@pytest.mark.parametrize("name", FORMATS)
def test_signing_again_replaces_the_manifest(
    body: bytes, label: Label, signer: ManifestSigner
) -> None:
    once = signer.sign(label_image(body, label), label)
    other = replace(label, seed=7)
    twice = signer.sign(label_image(once, other), other)
    assert read_manifest(twice) == ids(other)
    assert abs(len(twice) - len(once)) < 16
    assert twice != signer.sign(label_image(once, other), other)  # its id and salts are new


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_without_a_manifest_has_none(name: str, label: Label) -> None:
    assert inspect_manifest(samples()[name]) is None
    assert read_manifest(label_image(samples()[name], label)) is None


def test_a_manifest_by_another_tool_holds_no_label_of_ours(signer: ManifestSigner) -> None:
    context, _ = signer._contexts()
    theirs, source = io.BytesIO(), io.BytesIO(samples()["rgb.png"])
    action = {"action": "c2pa.created", "digitalSourceType": "http://example.org/x"}
    definition = {"assertions": [{"label": "c2pa.actions", "data": {"actions": [action]}}]}
    with library.Builder(definition, context=context) as builder:
        builder.sign("image/png", source, theirs)
    manifest = inspect_manifest(theirs.getvalue())
    assert manifest is not None
    assert (manifest.label, manifest.valid) == (None, True)
    assert read_manifest(theirs.getvalue()) is None


def test_no_image_is_an_error() -> None:
    for read in (inspect_manifest, read_manifest):
        with pytest.raises(ImageError):
            read(b"<html>")


def test_nothing_is_fetched_for_a_manifest_that_lies_elsewhere() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.setblocking(False)
        packet = (
            "<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF"
            " xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>"
            "<rdf:Description rdf:about='' xmlns:dcterms='http://purl.org/dc/terms/'"
            f" dcterms:provenance='http://127.0.0.1:{door.getsockname()[1]}/manifest.c2pa'/>"
            "</rdf:RDF></x:xmpmeta>"
        )
        for name in FORMATS:
            assert inspect_manifest(insert_xmp(samples()[name], packet.encode())) is None
        with pytest.raises(BlockingIOError):
            door.accept()


@pytest.mark.parametrize(
    ("failures", "successes", "valid"),
    [
        (["signingCredential.expired", UNKNOWN_SIGNER], [], True),
        (["claimSignature.outsideValidity", UNKNOWN_SIGNER], [], True),
        (["timeStamp.untrusted"], [], True),
        ([], ["-claimSignature.validated"], False),
        ([], ["-assertion.dataHash.match"], False),
        ([], ["-assertion.dataHash.match", "assertion.boxesHash.match"], True),
        (["signingCredential.revoked"], [], False),
        (["claimSignature.mismatch"], [], False),
        (["something.new"], [], False),
    ],
)
def test_a_signer_may_be_unknown_or_expired_but_the_bytes_must_be_proven(
    failures: list[str], successes: list[str], valid: bool
) -> None:
    """As the reader words it: an expired certificate can't be had without waiting."""
    proven = {"claimSignature.validated", "assertion.dataHash.match"}
    for code in successes:
        proven ^= {code.removeprefix("-")}
    results = {
        "failure": [{"code": code} for code in failures],
        "success": [{"code": code} for code in proven],
    }
    found = {
        "active_manifest": "a",
        "manifests": {"a": {"assertions": []}},
        "validation_results": {"activeManifest": results},
    }
    assert c2pa._parse_manifest(found).valid is valid


def test_members_of_another_type_are_left_out() -> None:
    members = {"prompt": 1, "seed": True, "run_id": "run", "created_at": "soon", "input": "{}"}
    assert c2pa._parse_label(members) == Label(run_id="run")
    assert c2pa._parse_label([]) is None
    assert c2pa._parse_label({"created_at": "2026-01-01T00:00:00"}) == Label()


def test_without_the_package_there_is_nothing_to_read(
    signed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    assert [inspect_manifest(body) for body in signed.values()] == [None] * 3


def test_cost_in_bytes(signer: ManifestSigner, label: Label) -> None:
    """With an own root in the chain, and our ids: under 5 KB, whatever the image."""
    large = encode(Image.linear_gradient("L").resize((1024, 1024)), "WEBP")
    for body in (large, *(samples()[name] for name in FORMATS)):
        labelled = label_image(body, label)
        assert len(signer.sign(labelled, label)) - len(labelled) < 5000
