"""A variant is signed as an edit of its picture, which is its ingredient, in every format."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flux_pipeline.errors import SigningError
from flux_pipeline.images.c2pa import Edit, inspect_manifest
from flux_pipeline.images.labels import SOURCE_TYPE, Label, build_packet, label_image
from flux_pipeline.images.signing import Credentials, ManifestSigner, open_signer
from flux_pipeline.images.variants import RenderedVariant, render_variants
from flux_pipeline.variant import FORMATS, VariantSpec
from tests.images.certificates import issue
from tests.images.provider_credentials import provider
from tests.images.samples import encode, picture, samples

library = pytest.importorskip("c2pa", reason="c2pa is missing: pip install 'flux-pipeline[c2pa]'")
SPECS = [VariantSpec(name=name, width=30, format=name) for name in FORMATS]  # type: ignore[arg-type]


def render(body: bytes, signer: ManifestSigner | None, **options: Any) -> list[RenderedVariant]:
    return list(render_variants(body, SPECS, signer=signer, **options).variants)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> ManifestSigner:
    opened = open_signer(*issue(tmp_path_factory.mktemp("studio")).paths)
    assert opened is not None
    return opened


def manifests(found: RenderedVariant) -> tuple[dict[str, Any], dict[str, Any]]:
    """The active manifest, and all of them by their label."""
    reader = library.Reader(FORMATS[found.spec.format].content_type, io.BytesIO(found.data))
    with reader:
        said = json.loads(reader.json())
    return said["manifests"][said["active_manifest"]], said["manifests"]


def test_each_variant_is_a_valid_edit_of_the_original_and_carries_its_manifest(
    label: Label, signer: ManifestSigner
) -> None:
    original = signer.sign(label_image(samples()["rgb.png"], label), label)
    for found in render(original, signer):
        manifest = inspect_manifest(found.data)
        assert manifest is not None
        assert manifest.valid
        assert manifest.label is not None
        assert manifest.label.image_sha256 == label.image_sha256

        active, everything = manifests(found)
        (ingredient,) = active["ingredients"]
        assert (ingredient["relationship"], ingredient["title"]) == ("parentOf", "original")
        first = everything[ingredient["active_manifest"]]
        assert actions(first)[0]["digitalSourceType"] == SOURCE_TYPE
        done = [action["action"] for action in actions(active)]
        last = "c2pa.transcoded" if found.spec.format == "png" else "c2pa.converted"
        assert done == ["c2pa.opened", "c2pa.resized", "c2pa.enhanced", last]
        assert Image.open(io.BytesIO(found.data)).size == (found.width, found.height)


def actions(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = next(
        each["data"]["actions"]
        for each in manifest["assertions"]
        if each["label"].startswith("c2pa.actions")
    )
    return found


def test_what_was_done_is_said(signer: ManifestSigner) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    body = encode(picture(), "JPEG", exif=turned)
    spec = VariantSpec(
        name="v",
        width=20,
        height=20,
        fit="cover",
        format="jpg",
        background="#ffffff",
        sharpen=0,
    )
    (found,) = render_variants(body, [spec], signer=signer).variants
    assert list(found.edits) == [
        Edit.ORIENTED,
        Edit.CROPPED,
        Edit.RESIZED,
        Edit.PLACED_ON_GROUND,
        Edit.ENCODED_ANEW,
    ]
    active, _ = manifests(found)
    assert [each["action"] for each in actions(active)][1:] == list(found.edits)


def test_a_provider_s_manifest_is_carried_on_as_the_ingredient_s(
    signer: ManifestSigner, tmp_path: Path
) -> None:
    kept = provider(tmp_path)(samples()["alpha.webp"])
    for found in render(kept, signer, sidecar=build_packet(Label(prompt="a fox"))):
        manifest = inspect_manifest(found.data)
        assert manifest is not None
        assert manifest.valid
        _, everything = manifests(found)
        assert len(everything) == 2


def test_a_byte_that_is_changed_afterwards_is_found_in_an_avif_too(signer: ManifestSigner) -> None:
    for found in render(samples()["rgb.png"], signer):
        data = bytearray(found.data)
        data[-9] ^= 1
        manifest = inspect_manifest(bytes(data))
        assert manifest is None or not manifest.valid


def test_a_key_that_fails_is_told_with_the_picture(tmp_path: Path) -> None:
    def refuse(_data: bytes) -> bytes:
        raise OSError("the key service is down")

    chain = issue(tmp_path).certificate.read_bytes()
    failing = ManifestSigner(Credentials("es256", chain, None, refuse))
    with pytest.raises(SigningError, match=r"^castle: .*could not be signed"):
        render(samples()["rgb.png"], failing, picture="castle")


def test_without_a_signer_a_variant_has_no_manifest(signer: ManifestSigner) -> None:
    original = signer.sign(samples()["rgb.png"], Label())
    assert [inspect_manifest(found.data) for found in render(original, None)] == [None] * len(SPECS)
