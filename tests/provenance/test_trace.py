"""Pictures that went through other people's tools, and ids, back to their rows."""

import io
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from flux_pipeline.images.inspection import read_evidence
from flux_pipeline.images.labels import label_image, read_label
from flux_pipeline.images.variants import render_variants
from flux_pipeline.lineage.query import Snapshot
from flux_pipeline.lineage.record import reproduction_partition
from flux_pipeline.lineage.schema import SCHEMA
from flux_pipeline.lineage.table import CompactedTable
from flux_pipeline.provenance.trace import (
    Answer,
    AnsweredBy,
    Certainty,
    answer_to,
    matching_hashes,
    trace_id,
    trace_image,
)
from flux_pipeline.store.local import FolderStore
from flux_pipeline.variant import FORMATS, Format, VariantSpec
from tests.images.samples import encode, picture, strip_xmp
from tests.provenance.labelled_images import NAMES, LabelledImages, opened

needs_exiftool = pytest.mark.skipif(
    shutil.which("exiftool") is None,
    reason="ExifTool is missing: apt-get install libimage-exiftool-perl",
)
needs_cwebp = pytest.mark.skipif(
    shutil.which("cwebp") is None, reason="cwebp is missing: apt-get install webp"
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> LabelledImages:
    images = LabelledImages(FolderStore(tmp_path_factory.mktemp("images")))
    for seed, image_format in enumerate(NAMES, 11):
        images.put(image_format, image_format, seed=seed)
    images.put("other", seed=21)
    images.put("unrecorded", seed=22)
    return images


@pytest.fixture(scope="module")
def snapshot(images: LabelledImages) -> Snapshot:
    return images.snapshot("webp", "jpg", "png", "other")


def trace(snapshot: Snapshot, body: bytes) -> Answer:
    answer = trace_image(snapshot, read_evidence(body))
    assert answer is not None
    return answer


def summary(answer: Answer) -> tuple[str, str, str | None]:
    return answer.answered_by, answer.certainty, answer.values["prompt_name"]  # type: ignore[return-value]


def saved(image: Image.Image, name: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, name, **options)
    return out.getvalue()


@pytest.mark.parametrize("published_as", list(FORMATS))
def test_a_published_variant_leads_to_its_picture_even_where_it_was_cut(
    images: LabelledImages, snapshot: Snapshot, published_as: Format
) -> None:
    small = VariantSpec(name="small", width=100, format=published_as)
    strip = VariantSpec(name="strip", width=12, height=60, fit="cover", format=published_as)
    whole, cut = (
        trace(snapshot, variant.data)
        for variant in render_variants(images.body("webp"), [small, strip]).variants
    )
    assert summary(whole) == ("xmp", "likely", "webp")
    assert summary(cut) == ("xmp", "unverified", "webp")
    assert "cropped or edited" in cut.notes[0]


@pytest.mark.parametrize("name", NAMES)
class TestOneImage:
    def test_as_it_was_stored(self, images: LabelledImages, snapshot: Snapshot, name: str) -> None:
        answer = trace(snapshot, images.body(name))
        assert summary(answer) == ("xmp", "certain", name)
        assert (answer.distance, answer.record, answer.notes) == (0, images.records[name], [])

    def test_without_its_label(self, images: LabelledImages, snapshot: Snapshot, name: str) -> None:
        answer = trace(snapshot, strip_xmp(images.body(name)))
        assert summary(answer) == ("pixels", "certain", name)
        assert answer.distance == 0

    @pytest.mark.parametrize("saved_as", ["JPEG", "WEBP"])
    @pytest.mark.parametrize("scale", [1, 2])
    def test_encoded_anew_at_quality_60_and_halved(
        self, images: LabelledImages, snapshot: Snapshot, name: str, saved_as: str, scale: int
    ) -> None:
        image = opened(images.body(name))
        small = image.resize((image.width // scale, image.height // scale))
        answer = trace(snapshot, saved(small, saved_as, quality=60))
        assert summary(answer) == ("similar", "likely", name)
        assert answer.distance is not None
        assert answer.distance <= 6

    def test_encoded_anew_with_its_label_kept(
        self, images: LabelledImages, snapshot: Snapshot, name: str
    ) -> None:
        label = read_label(images.body(name))
        assert label is not None
        copy = label_image(saved(opened(images.body(name)), "JPEG", quality=60), label)
        answer = trace(snapshot, copy)
        assert summary(answer) == ("xmp", "likely", name)
        assert "encoded anew" in answer.notes[0]

    @needs_exiftool
    def test_through_exiftool(
        self, images: LabelledImages, snapshot: Snapshot, name: str, tmp_path: Path
    ) -> None:
        path = tmp_path / f"holiday.{name}"
        path.write_bytes(images.body(name))
        command = ["exiftool", "-q", "-overwrite_original", "-Artist=somebody", path]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip(f"this ExifTool can't write {name}")
        assert summary(trace(snapshot, path.read_bytes())) == ("xmp", "certain", name)
        subprocess.run([*command[:3], "-all=", path], check=True)
        assert summary(trace(snapshot, path.read_bytes())) == ("pixels", "certain", name)

    @needs_cwebp
    def test_through_cwebp(
        self, images: LabelledImages, snapshot: Snapshot, name: str, tmp_path: Path
    ) -> None:
        source, target = tmp_path / f"a.{name}", tmp_path / "b.webp"
        source.write_bytes(images.body(name))
        for kept, witness in (("xmp", "xmp"), ("none", "similar")):
            command = ["cwebp", "-quiet", "-q", "60", "-metadata", kept, source, "-o", target]
            subprocess.run(command, check=True)
            assert summary(trace(snapshot, target.read_bytes())) == (witness, "likely", name)


@pytest.mark.parametrize("name", NAMES)
def test_a_signed_file_is_answered_by_its_manifest_until_somebody_edits_it(
    images: LabelledImages, snapshot: Snapshot, name: str, tmp_path: Path
) -> None:
    pytest.importorskip("c2pa", reason="c2pa is missing: pip install 'flux-pipeline[c2pa]'")
    from flux_pipeline.images.signing import open_signer
    from tests.images.certificates import issue

    signer = open_signer(*issue(tmp_path).paths)
    label = read_label(images.body(name))
    assert signer is not None
    assert label is not None
    signed = signer.sign(images.body(name), label)
    assert summary(trace(snapshot, signed)) == ("c2pa", "certain", name)
    unrecorded = LabelledImages(FolderStore(tmp_path / "empty")).snapshot()
    alone = trace(unrecorded, signed)
    assert summary(alone) == ("c2pa", "unverified", name)
    assert alone.values["input"] == images.records[name].input
    assert summary(trace(snapshot, strip_xmp(signed))) == ("pixels", "certain", name)


@pytest.mark.parametrize("name", ["GIF", "BMP", "TIFF"])
def test_another_file_type_is_told_by_its_looks(
    images: LabelledImages, snapshot: Snapshot, name: str
) -> None:
    answer = trace(snapshot, saved(opened(images.body("png")), name))
    assert summary(answer) == ("similar", "likely", "png")


def test_a_file_with_something_behind_it_is_told_by_its_looks(
    images: LabelledImages, snapshot: Snapshot
) -> None:
    answer = trace(snapshot, images.body("jpg") + b"appended by a web site")
    assert summary(answer) == ("similar", "likely", "jpg")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no image",
        encode(picture(300, 200, seed=77), "PNG"),
        saved(Image.new("RGB", (300, 200), "red"), "PNG"),
    ],
    ids=["empty", "text", "stranger", "plain"],
)
def test_what_is_not_known_is_not_guessed(snapshot: Snapshot, body: bytes) -> None:
    assert trace_image(snapshot, read_evidence(body)) is None


def test_a_crop_is_another_image_and_said_to_be_doubtful_where_its_label_stayed(
    images: LabelledImages, snapshot: Snapshot
) -> None:
    image = opened(images.body("jpg"))
    crop = saved(image.crop((image.width // 4, image.height // 4, *image.size)), "JPEG")
    assert trace_image(snapshot, read_evidence(crop)) is None

    label = read_label(images.body("jpg"))
    assert label is not None
    answer = trace(snapshot, label_image(crop, label))
    assert summary(answer) == ("xmp", "unverified", "jpg")
    assert "label and pixels disagree" in answer.notes[0]


class TestLabelsThatLie:
    def test_another_images_label_is_overruled_by_the_pixels(
        self, images: LabelledImages, snapshot: Snapshot
    ) -> None:
        label = read_label(images.body("other"))
        assert label is not None
        answer = trace(snapshot, label_image(images.body("jpg"), label))
        assert summary(answer) == ("pixels", "certain", "jpg")
        assert "label and pixels disagree: its label names prediction-other" in answer.notes[0]

    def test_and_by_the_looks_of_a_copy(self, images: LabelledImages, snapshot: Snapshot) -> None:
        label = read_label(images.body("other"))
        assert label is not None
        copy = label_image(saved(opened(images.body("jpg")), "JPEG", quality=60), label)
        answer = trace(snapshot, copy)
        assert summary(answer) == ("similar", "likely", "jpg")
        assert "label and pixels disagree" in answer.notes[0]

    def test_a_label_of_ours_that_no_row_confirms_is_told_as_such(
        self, images: LabelledImages, snapshot: Snapshot
    ) -> None:
        answer = trace(snapshot, images.body("unrecorded"))
        assert summary(answer) == ("xmp", "unverified", "unrecorded")
        assert answer.record is None
        assert answer.reproducible is None
        assert "the lineage table does not have" in answer.notes[0]
        assert "it fits the pixels" in answer.notes[1]
        assert list(answer.values) == SCHEMA.names
        assert answer.values["seed"] == 22
        assert answer.values["uri"] is None

    def test_an_invented_label_on_a_copy_of_ours_is_overruled(
        self, images: LabelledImages, snapshot: Snapshot
    ) -> None:
        label = read_label(images.body("jpg"))
        assert label is not None
        invented = replace(label, request_sha256="e" * 64, prediction_id="invented")
        copy = label_image(saved(opened(images.body("jpg")), "JPEG", quality=60), invented)
        answer = trace(snapshot, copy)
        assert summary(answer) == ("similar", "likely", "jpg")
        assert "names invented, which the lineage table does not have" in answer.notes[0]


def test_of_the_same_pixels_the_original_answers_and_the_reproduction_is_named(
    tmp_path: Path,
) -> None:
    images = LabelledImages(FolderStore(tmp_path))
    original = images.put("png", "png", seed=13)
    again = replace(
        original,
        request_sha256="a" * 64,
        prediction_id="prediction-again",
        prompt_name="again",
        partition=reproduction_partition(original.request_sha256),
        stored_at=None,
    )
    images.records["again"] = again
    snapshot = images.snapshot("png", "again")

    answer = trace(snapshot, strip_xmp(images.body("png")))
    assert summary(answer) == ("pixels", "certain", "png")
    assert answer.notes == ["the same image: prediction-again:0"]
    found = trace_id(snapshot, "prediction-again")
    assert found is not None
    assert found.reproducible == original.request_sha256
    assert original.request_sha256 in found.with_origin().notes[0]


class TestIds:
    @pytest.mark.parametrize(
        "column", ["prediction_id", "request_sha256", "image_sha256", "file_sha256", "uri"]
    )
    def test_every_id_of_a_row_finds_it(
        self, images: LabelledImages, snapshot: Snapshot, column: str
    ) -> None:
        answer = trace_id(snapshot, getattr(images.records["webp"], column))
        assert answer is not None
        assert summary(answer) == (AnsweredBy.ID, Certainty.CERTAIN, "webp")

    @pytest.mark.parametrize("column", ["request_sha256", "image_sha256", "file_sha256"])
    def test_eight_characters_of_a_hash_are_enough(
        self, images: LabelledImages, snapshot: Snapshot, column: str
    ) -> None:
        whole = str(getattr(images.records["png"], column))
        for text in (whole[:8], whole[:8].upper(), whole.upper()):
            answer = trace_id(snapshot, text)
            assert answer is not None
            assert answer.record == images.records["png"]
        assert trace_id(snapshot, whole[:7]) is None

    def test_a_run_is_answered_by_one_of_its_images(self, snapshot: Snapshot) -> None:
        answer = trace_id(snapshot, "run-1")
        assert answer is not None
        assert "`flux-pipeline trace --run`" in answer.notes[0]

    def test_what_begins_with_the_same_is_not_guessed(self, tmp_path: Path) -> None:
        images = LabelledImages(FolderStore(tmp_path))
        for word, sha in (("one", "abcdef01" + "0" * 56), ("two", "abcdef01" + "1" * 56)):
            images.records[word] = replace(images.put(word, seed=len(word)), request_sha256=sha)
        images.records["two"] = replace(images.records["two"], prediction_id="prediction-two")
        snapshot = images.snapshot()
        assert trace_id(snapshot, "abcdef01") is None
        assert matching_hashes(snapshot, "abcdef01") == 2
        assert trace_id(snapshot, "abcdef010") is not None
        assert matching_hashes(snapshot, "nothing!") == 0

    def test_an_unknown_beginning_reads_each_column_once(
        self, snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read: list[str] = []

        def noting(table: CompactedTable, group: int, columns: Sequence[str]) -> pa.Table:
            read.extend(columns)
            return really_read(table, group, columns)

        really_read = CompactedTable.read
        monkeypatch.setattr(CompactedTable, "read", noting)
        assert answer_to(FolderStore(tmp_path / "empty"), snapshot, "88888888")[0] is None
        hashes = ["request_sha256", "image_sha256", "file_sha256"]
        assert read == [*hashes, "prediction_id", "run_id"]

    @pytest.mark.parametrize("text", ["", "nosuch", "0" * 64, "x" * 300])
    def test_an_unknown_one_finds_nothing(self, snapshot: Snapshot, text: str) -> None:
        assert trace_id(snapshot, text) is None
