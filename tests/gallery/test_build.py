"""Building a gallery: what is new is read and added, what is broken is made again."""

import json
import re
import zlib
from base64 import b64decode, b64encode
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flux_pipeline.gallery import build, manifest
from flux_pipeline.gallery.build import Gallery, build_gallery, build_overview
from flux_pipeline.gallery.manifest import (
    OVERVIEW,
    data_key,
    gallery_key,
    manifest_key,
    summary_key,
)
from flux_pipeline.lineage import table
from flux_pipeline.lineage.asked import AskedRequests
from flux_pipeline.lineage.record import ImageStatus
from flux_pipeline.lineage.schema import to_parquet
from flux_pipeline.store.base import check_key
from tests.gallery.counting_store import CountingStore
from tests.gallery.samples import HOSTILE, an_image, made_from, pack, record
from tests.lineage.samples import NOON, a_failure

CALL = re.compile(r'fluxGallery\("(\w+)","(\w+)",(\d+),(.*)\);\n', re.DOTALL)


def built(store: CountingStore, name: str = "winter", **changes: Any) -> Gallery:
    store.forget()
    return build_gallery(store, name, now=NOON, **changes)


def data(store: CountingStore, kind: str, number: int = 1, name: str = "winter") -> list[list[Any]]:
    text = (store.root / data_key(kind, name, number)).read_text(encoding="utf-8")
    call = CALL.fullmatch(text)
    assert call is not None
    assert call.groups()[:3] == (kind, name, str(number))
    rows: list[list[Any]] = json.loads(call[4])
    return rows


def shown(store: CountingStore, name: str = "winter") -> dict[str, Any]:
    text = (store.root / gallery_key(name)).read_text(encoding="utf-8")
    (found,) = re.findall(r'id="gallery-data">(.*?)</script>', text, re.DOTALL)
    page: dict[str, Any] = json.loads(found)
    return page


def prompts(store: CountingStore) -> list[str]:
    """Of all rows that the page is led to."""
    numbers = [chapter for chapter, *_ in shown(store)["sets"][0]["chapters"]]
    return [row[4] for number in numbers for row in data(store, "chapter", number)]


def a_partition(store: CountingStore, name: str, *numbers: int) -> None:
    rows = [an_image(store, number, prompt=f"{name} {number}") for number in numbers]
    record(store, rows, partition=name)
    pack(store, rows)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "PAGE_ROWS", 3)
    monkeypatch.setattr(manifest, "CHAPTER_PAGES", 2)


def test_rows_lead_to_images_and_details_hold_the_whole_record_and_a_thumbnail(
    store: CountingStore,
) -> None:
    a_partition(store, "castle", 7)
    gallery = built(store, description="Winter <campaign>")
    (row,) = data(store, "chapter")
    (details,) = data(store, "details")
    assert row[1:9] == ["prompt-winter 7", "castle", 1, "castle 7", "7", "stored", "", row[8]]
    assert row[8:11] == ["images/winter/7.webp", 128, 72]
    assert details[0] == row[0]
    assert details[1].startswith("UklGR")  # RIFF in base64: a WebP, as earlier versions wrote
    fields = dict(zip(shown(store)["fields"], details[2:], strict=True))
    assert fields["model"] == "lucataco/flux-schnell-lora"
    assert fields["stored_at"] == "2026-11-01T12:00:04.000Z"
    assert fields["cost_usd"] == "0.003"
    assert gallery.uri == f"{store.uri}/galleries/winter/index.html"
    assert gallery.size == len((store.root / gallery_key("winter")).read_bytes())
    assert shown(store)["sets"][0]["description"] == "Winter <campaign>"


@pytest.mark.parametrize("key", [gallery_key("w_1"), manifest_key("w_1"), OVERVIEW])
def test_keys_are_such_that_every_store_takes(key: str) -> None:
    check_key(key)


def test_a_new_partition_does_not_read_the_old_ones(
    store: CountingStore, small_pages: None
) -> None:
    for number in range(7):
        a_partition(store, f"part-{number}", number)
    assert built(store).parts_read == 7
    a_partition(store, "part-7", 7)
    gallery = built(store)
    assert gallery.parts_read == len(store.reads("lineage/")) == 1
    assert len(store.reads("thumbnails/")) == 1
    assert store.reads("galleries/winter/details") == [data_key("details", "winter", 3)]
    assert store.reads("galleries/winter/chapter") == store.reads("images/") == []
    assert [key for key in store.written if key.endswith(".js")] == [
        data_key("details", "winter", 3),
        data_key("chapter", "winter", 2),
    ]
    assert len(prompts(store)) == gallery.summary.stored == 8


def test_nothing_new_writes_no_data(store: CountingStore) -> None:
    a_partition(store, "castle", 1, 2)
    first = built(store)
    again = built(store)
    assert (again.parts_read, again.files_written, store.reads("lineage/")) == (0, 0, [])
    assert not [key for key in store.written if "manifest" in key]
    assert again.images_version == first.images_version


def test_nothing_at_all_is_a_gallery_too(store: CountingStore) -> None:
    gallery = built(store)
    assert (gallery.summary.stored, gallery.summary.pages) == (0, ())


def test_a_later_row_takes_the_place_of_an_earlier_one(
    store: CountingStore, small_pages: None
) -> None:
    rows = [an_image(store, number) for number in range(4)]
    record(store, [a_failure("winter 0", error="no connection"), *rows[1:]])
    assert built(store).summary.missing == 1
    later = NOON + timedelta(hours=1)
    record(store, [an_image(store, 0, stored_at=later, prompt="at last")], run_id="run-2")
    gallery = built(store)
    assert (gallery.summary.stored, gallery.summary.missing) == (4, 0)
    assert len(prompts(store)) == 4
    assert prompts(store)[-1] == "at last"
    assert store.reads("lineage/") == [key for key in store.read if "run-2" in key]


def test_an_earlier_row_that_comes_late_changes_nothing(store: CountingStore) -> None:
    record(store, [an_image(store, 1, prompt="now", stored_at=NOON + timedelta(hours=1))])
    built(store)
    record(store, [an_image(store, 1, prompt="before", stored_at=NOON)], run_id="run-0")
    assert built(store).summary.stored == 1
    assert prompts(store) == ["now"]


def test_each_chapter_is_listed_with_its_rows_the_time_of_its_newest_and_its_last_page(
    store: CountingStore, small_pages: None
) -> None:
    hours = [NOON + timedelta(hours=number) for number in range(7)]
    rows = [an_image(store, number, stored_at=at) for number, at in enumerate(hours)]
    record(store, rows)
    summary = built(store).summary
    assert [(number, count, at, last) for number, count, _, at, last in summary.chapters] == [
        (1, 6, int(hours[5].timestamp() * 1000), 2),
        (2, 1, int(hours[6].timestamp() * 1000), 3),
    ]
    for number, _, _, at, _ in summary.chapters:
        assert at == max(row[11] for row in data(store, "chapter", number))
    assert [page for page, _ in summary.pages] == [1, 2, 3]


def test_a_row_names_its_page_where_it_is_the_first_of_it(
    store: CountingStore, small_pages: None
) -> None:
    record(store, [an_image(store, number, model="a/one") for number in range(5)])
    built(store)
    named = [row[14:] for row in data(store, "chapter")]
    assert named == [["a/one", 1], [], [], [None, 2], []]
    details = [[row[0] for row in data(store, "details", page)] for page in (1, 2)]
    ids = [row[0] for row in data(store, "chapter")]
    assert details == [ids[:3], ids[3:]]


def test_a_page_of_which_no_row_is_current_is_left_out(
    store: CountingStore, small_pages: None
) -> None:
    record(store, [a_failure(f"winter {number}") for number in range(3)])
    built(store)
    later = NOON + timedelta(hours=1)
    record(store, [an_image(store, n, stored_at=later) for n in range(3)], run_id="run-2")
    assert [page for page, _ in built(store).summary.pages] == [2]
    assert prompts(store) == [f"a beautiful castle, number winter {n}" for n in range(3)]


def test_a_resumed_run_whose_part_was_written_again_is_read_again(store: CountingStore) -> None:
    record(store, [an_image(store, 1)])
    built(store, run_id="run-1")
    record(store, [an_image(store, 2)])  # the same part, with one row more
    assert built(store, run_id="run-1").summary.stored == 2


@pytest.mark.parametrize("kind", ["chapter", "details"])
@pytest.mark.parametrize("damage", [None, b"", b"fluxGallery(damaged"])
def test_a_lost_or_damaged_page_is_made_again_and_no_other(
    store: CountingStore, small_pages: None, kind: str, damage: bytes | None
) -> None:
    for number in range(5):
        a_partition(store, f"part-{number}", number)
    built(store)
    path = store.root / data_key(kind, "winter", 1)
    before = path.read_bytes()
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    gallery = built(store)
    assert path.read_bytes() == before
    assert gallery.parts_read == (3 if kind == "details" else 0)
    assert gallery.files_written == 1


@pytest.mark.parametrize("damage", [None, b"", b"PAR1 and no more", b"{}"])
def test_a_lost_or_damaged_manifest_is_made_again_from_the_parts(
    store: CountingStore, small_pages: None, damage: bytes | None
) -> None:
    for number in range(5):
        a_partition(store, f"part-{number}", number)
    first = built(store)
    pages = {path.name: path.read_bytes() for path in store.root.glob("galleries/winter/*.js")}
    path = store.root / manifest_key("winter")
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    again = built(store)
    assert again.parts_read == 5
    assert again.summary == first.summary
    assert pages == {p.name: p.read_bytes() for p in store.root.glob("galleries/winter/*.js")}


def test_a_manifest_with_a_damaged_column_is_made_again_from_the_parts(
    store: CountingStore, small_pages: None
) -> None:
    for number in range(5):
        a_partition(store, f"part-{number}", number)
    first = built(store)
    path = store.root / manifest_key("winter")
    body = path.read_bytes()
    path.write_bytes(body[:4] + bytes(1_000) + body[1_004:])  # the footer stays as it is
    again = built(store)
    assert again.parts_read == 5
    assert (again.summary, again.images_version) == (first.summary, first.images_version)
    assert built(store).parts_read == 0


def test_a_build_without_anything_new_does_not_read_the_manifest(
    store: CountingStore,
) -> None:
    a_partition(store, "castle", 1, 2)
    first = built(store)
    again = built(store, description="another")
    assert (again.images_version, again.files_written) == (first.images_version, 0)
    assert again.summary == replace(first.summary, description="another")
    assert shown(store)["sets"][0]["description"] == "another"
    assert manifest_key("winter") not in store.read


def test_a_build_for_which_only_what_is_asked_for_has_changed_reads_the_columns_that_it_adds_up(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_partition(store, "castle", 1, 2)
    first = built(store)
    read: set[str] = set()
    read_row_group = pq.ParquetFile.read_row_group

    def noted(file: pq.ParquetFile, group: int, columns: list[str], **options: Any) -> pa.Table:
        read.update(columns)
        return read_row_group(file, group, columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    asked = AskedRequests()
    for _ in asked.watch([("castle", ())]):
        pass
    asked.close(["castle"])
    asked.write(store, "winter", known=["castle"], run_id="run-2", now=NOON)
    again = built(store)
    assert len(again.summary.obsolete) == 2
    assert again.images_version == first.images_version
    assert "request_sha256" in read
    assert not {"prompt", "uri", "part", "pack"} & read


@pytest.mark.parametrize("damage", [None, b"", b"[]", b'{"inputs": 1}'])
def test_a_lost_or_damaged_note_of_the_last_build_costs_a_look_at_the_manifest(
    store: CountingStore, damage: bytes | None
) -> None:
    a_partition(store, "castle", 1, 2)
    first = built(store)
    path = store.root / "galleries/winter/last-build.json"
    before = path.read_bytes()
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    again = built(store)
    assert (again.summary, again.images_version) == (first.summary, first.images_version)
    assert (again.parts_read, again.files_written) == (0, 0)
    assert path.read_bytes() == before


def test_a_manifest_of_the_release_before_chapters_gets_them_without_reading_a_part(
    store: CountingStore, small_pages: None
) -> None:
    for number in range(7):
        a_partition(store, f"part-{number}", number)
    first = built(store)
    path = store.root / manifest_key("winter")
    after = path.read_bytes()
    path.write_bytes(without_chapters(path.read_bytes()))
    for each in store.root.glob("galleries/winter/chapter-*.js"):
        each.unlink()
    again = built(store)
    assert (again.summary, again.parts_read, again.files_written) == (first.summary, 0, 2)
    assert len(prompts(store)) == 7
    assert path.read_bytes() == after


def without_chapters(body: bytes) -> bytes:
    """A manifest as it was when each page had a file of rows of its own."""
    table = pq.ParquetFile(pa.BufferReader(body)).read()
    name = b"flux-pipeline.gallery"
    about = json.loads(zlib.decompress(b64decode(table.schema.metadata[name])))
    del about["chapters"]
    about["form"] = f"3-{about['form'].partition('-')[2]}"
    about["pages"] = {n: ["0" * 64, digest] for n, digest in about["pages"].items()}
    packed = b64encode(zlib.compress(json.dumps(about).encode()))
    return to_parquet(table.replace_schema_metadata({name: packed}))


def test_a_manifest_is_written_in_row_groups_that_depend_on_its_rows_alone(
    store: CountingStore, small_pages: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "_ROW_GROUP", 4)
    path = store.root / manifest_key("winter")
    for number in range(10):
        a_partition(store, f"part-{number}", number)
        built(store)
    grown = path.read_bytes()
    assert pq.ParquetFile(path).metadata.num_row_groups == 3
    path.unlink()
    built(store)
    assert path.read_bytes() == grown


def test_a_page_written_by_another_build_at_once_is_found_and_made_again(
    store: CountingStore,
) -> None:
    a_partition(store, "castle", 1)
    built(store)
    theirs = (store.root / manifest_key("winter")).read_bytes()
    a_partition(store, "moon", 2)
    built(store)
    (store.root / manifest_key("winter")).write_bytes(theirs)  # the slower one knew of one part
    built(store)
    assert sorted(prompts(store)) == ["castle 1", "moon 2"]
    ids = {row[0] for page in (1, 2) for row in _details(store, page)}
    assert ids >= {row[0] for row in data(store, "chapter", 1)}


def _details(store: CountingStore, page: int) -> list[list[Any]]:
    known = [number for number, *_ in shown(store)["sets"][0]["pages"]]
    return data(store, "details", page) if page in known else []


def test_thumbnails_that_come_later_are_added(store: CountingStore) -> None:
    rows = [an_image(store, 1), an_image(store, 2)]
    record(store, rows)
    built(store)
    assert [row[1] for row in data(store, "details")] == ["", ""]
    pack(store, rows)
    built(store)
    assert all(row[1] for row in data(store, "details"))
    assert built(store).files_written == 0


def test_a_damaged_pack_costs_thumbnails_alone(store: CountingStore) -> None:
    a_partition(store, "castle", 1)
    (path,) = store.root.glob("thumbnails/winter/*.parquet")
    path.write_bytes(b"PAR1")
    assert built(store).summary.stored == 1
    assert [row[1] for row in data(store, "details")] == [""]


def test_the_newest_images_share_pages_whatever_their_partitions_are_called(
    store: CountingStore, small_pages: None
) -> None:
    for number, name in enumerate("zyxwvu"):
        at = NOON + timedelta(minutes=number)
        record(store, [an_image(store, number, prompt=name, stored_at=at)], partition=name)
    built(store)
    assert prompts(store) == list("zyxwvu")


def test_other_prompt_sets_are_not_in_it_even_if_their_names_begin_alike(
    store: CountingStore,
) -> None:
    record(store, [an_image(store, 1)])
    record(store, [an_image(store, 2, "winter_images")])
    assert built(store).summary.stored == 1
    assert built(store, "winter_images").summary.stored == 1


def test_what_did_not_come_has_its_status_and_reason(store: CountingStore) -> None:
    record(
        store,
        [
            a_failure(1, status=ImageStatus.REFUSED, error="its safety check"),
            a_failure(2, error="held: may have been paid"),
            a_failure(3, error=None),
        ],
    )
    assert built(store).summary.missing == 3
    found = sorted(tuple(row[6:9]) for row in data(store, "chapter"))
    assert found == [
        ("failed", "", ""),
        ("held", "may have been paid", ""),
        ("refused", "its safety check", ""),
    ]


@pytest.mark.parametrize(
    "uri",
    ["s3://elsewhere/a.webp", "{store}/../../etc/passwd", "{store}/javascript:alert(1)", "{store}"],
)
def test_no_link_leaves_the_store(store: CountingStore, uri: str) -> None:
    record(store, [an_image(store, 1, uri=uri.format(store=store.uri))])
    built(store)
    (row,) = data(store, "chapter")
    reason, key = row[7:9]
    assert key == ""
    assert reason.startswith("lies in another store")


def test_sources_are_keys_of_this_store_or_addresses_alone_and_only_where_there_are_some(
    store: CountingStore,
) -> None:
    key = "images/book/castle-1.webp"
    addresses = (f"{store.uri}/{key}", "https://elsewhere.invalid/a.png", "castle.png")
    outside = f"{store.uri}/../../etc/passwd"
    rows = [
        an_image(store, 1, input_images=made_from(*addresses, outside)),
        an_image(store, 2),
        an_image(store, 3, input_images='{"written": "by another hand"}'),
        an_image(store, 4, input_images="no JSON"),
    ]
    record(store, rows)
    built(store)
    known = len(shown(store)["fields"]) + 2
    found = {row[2 + shown(store)["fields"].index("seed")]: row for row in data(store, "details")}
    assert found["1"][known:] == [
        [
            ["image_1", addresses[0], key],
            ["image_2", addresses[1], ""],
            ["image_3", addresses[2], ""],
            ["image_4", outside, ""],
        ]
    ]
    assert [len(found[seed]) for seed in "234"] == [known] * 3


def test_pictures_that_the_input_links_to_are_sources_and_weights_are_none(
    store: CountingStore,
) -> None:
    sent = {
        "hf_lora": "https://weights.invalid/a.safetensors",
        "image": "https://pictures.invalid/a.png",
        "image_input": ["sha256:" + "0" * 64, "https://pictures.invalid/b.png"],
        "prompt": "https://pictures.invalid/c.png",
    }
    record(store, [an_image(store, 1, input=json.dumps(sent))])
    built(store)
    ((*_, sources),) = data(store, "details")
    assert sources == [
        ["image", "https://pictures.invalid/a.png", ""],
        ["image_input", "https://pictures.invalid/b.png", ""],
    ]


def test_a_row_names_its_model_where_the_row_before_has_another(store: CountingStore) -> None:
    models = ["a/one", "a/one", "b/two", "b/two", "a/one"]
    record(store, [an_image(store, n, model=model) for n, model in enumerate(models)])
    assert built(store).summary.models == ("a/one", "b/two")
    assert [row[14:] for row in data(store, "chapter")] == [
        *(["a/one", 1], [], ["b/two"], [], ["a/one"])
    ]
    assert shown(store)["sets"][0]["models"] == ["a/one", "b/two"]


def test_a_gallery_of_another_form_is_made_again_from_the_parts(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_partition(store, "castle", 1)
    with monkeypatch.context() as earlier:
        earlier.setattr(manifest, "FORM", "of an earlier release")
        built(store)
    (store.root / data_key("chapter", "winter", 1)).write_bytes(b"of an earlier release")
    gallery = built(store)
    assert (gallery.parts_read, gallery.files_written) == (1, 2)
    assert prompts(store) == ["castle 1"]
    assert built(store).files_written == 0


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text_in_every_field(store: CountingStore, text: str) -> None:
    fields = dict.fromkeys(
        ("prompt", "prompt_name", "partition", "model", "input", "hf_lora"), text
    )
    record(store, [an_image(store, 1, **fields), a_failure(2, error=text)])
    built(store, description=text)
    assert {row[4] for row in data(store, "chapter")} >= {text}
    for path in store.root.glob("galleries/winter/*.js"):
        assert not re.search("[<>&\u2028\u2029]", path.read_text(encoding="utf-8"))


def test_the_page_over_all_sets_leads_to_their_pages(store: CountingStore) -> None:
    record(store, [an_image(store, 1)])
    record(store, [an_image(store, 2, "summer"), an_image(store, 3, "summer")])
    for name in ("winter", "summer"):
        built(store, name)
    store.forget()
    overview = build_overview(store, now=NOON)
    assert (overview.sets, overview.stored, overview.missing) == (2, 3, 0)
    assert store.reads("lineage/") == []
    text = (store.root / OVERVIEW).read_text(encoding="utf-8")
    (found,) = re.findall(r'id="gallery-data">(.*?)</script>', text, re.DOTALL)
    page = json.loads(found)
    assert (page["root"], page["folders"]) == ("../", True)
    assert [each["name"] for each in page["sets"]] == ["summer", "winter"]
    assert shown(store)["root"] == "../../"


@pytest.mark.parametrize("damage", [None, b"{", b'{"form": 9, "pages": []}', b"[]"])
def test_a_gallery_without_a_readable_summary_is_built_again(
    store: CountingStore, damage: bytes | None
) -> None:
    record(store, [an_image(store, 1)])
    built(store)
    path = store.root / summary_key("winter")
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    assert build_overview(store, now=NOON).stored == 1
