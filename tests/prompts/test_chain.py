"""Chains: prompts made for each picture of another set follow its partitions and its bytes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.errors import ConfigError
from flux_pipeline.prompts import ByShard, PromptSet, load_prompt_set, load_prompt_sets
from flux_pipeline.prompts.chain import PlannedPictures, is_planned, plan_picture
from flux_pipeline.request import InputPicture, Request

BOOK = """
model: lucataco/flux-schnell-lora
prompts: {cover: a cover, page: {prompt: a page, takes: 2}}
"""
PRINT = """
model: nightmareai/real-esrgan
prompts:
  print: {each: book, image: "{image}", scale: 4}
"""


class Stored:
    """A lookup to which every picture is there, with a checksum of its request and a state."""

    def __init__(self, state: str = "1", missing: Sequence[str] = ()) -> None:
        self._state = state
        self._missing = missing

    def find(self, requests: Sequence[Request]) -> Sequence[Sequence[InputPicture]]:
        return [
            []
            if request.source.prompt_name in self._missing
            else [
                replace(plan_picture(request, index), uri=f"file:{self._state}", width=8, height=9)
                for index in range(request.outputs)
            ]
            for request in requests
        ]


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def load(folder: Path, name: str, **files: str) -> PromptSet:
    return load_prompt_set(write(folder, **files) / f"{name}.yaml")


def test_a_prompt_is_made_for_each_picture_in_the_partitions_of_its_set(tmp_path: Path) -> None:
    printed = load(tmp_path, "print", book=BOOK, print=PRINT)
    requests = list(printed.requests(pictures=Stored()))

    names = [each.source.prompt_name for each in requests]
    assert names == ["print-cover", "print-page", "print-page-take-2"]
    assert [each.source.partition for each in requests] == ["cover", "page", "page"]
    assert printed.partition_keys() == ("cover", "page")
    for each in requests:
        (picture,) = each.pictures
        assert each.input == {"image": picture.reference, "scale": 4}
    assert len({each.request_sha256 for each in requests}) == 3


def test_one_partition_follows_from_the_same_of_its_set(tmp_path: Path) -> None:
    printed = load(tmp_path, "print", book=BOOK, print=PRINT)
    found = printed.requests("page", pictures=Stored())
    assert {each.source.prompt_name for each in found} == {"print-page", "print-page-take-2"}


def test_without_a_lookup_every_picture_is_planned_and_none_could_be_sent(tmp_path: Path) -> None:
    printed = load(tmp_path, "print", book=BOOK, print=PRINT)
    pictures = [picture for each in printed.requests() for picture in each.pictures]
    assert len(pictures) == 3
    assert all(map(is_planned, pictures))
    assert all(each.request_sha256 for each in pictures)


def test_a_request_without_a_picture_has_no_followers(tmp_path: Path) -> None:
    printed = load(tmp_path, "print", book=BOOK, print=PRINT)
    found = printed.requests(pictures=Stored(missing=["page"]))
    assert [each.source.prompt_name for each in found] == ["print-cover"]


def test_the_bytes_decide_the_fingerprint_and_an_edit_changes_its_followers_alone(
    tmp_path: Path,
) -> None:
    printed = load(tmp_path, "print", book=BOOK, print=PRINT)
    before = printed.data_versions(["cover", "page"])
    edited = load(tmp_path, "print", book=BOOK.replace("a cover", "another cover"))
    after = edited.data_versions(["cover", "page"])
    assert before["cover"] != after["cover"]
    assert before["page"] == after["page"]


def test_placeholders_are_what_the_picture_was_made_with(tmp_path: Path) -> None:
    edit = """
model: black-forest-labs/flux-kontext-pro
prompts:
  night:
    each: {set: book, prompts: [cover]}
    prompt: "{prompt} at night, as {name}, {width} wide, {output_format}"
    input_image: "{image}"
"""
    (request,) = load(tmp_path, "night", book=BOOK, night=edit).requests(pictures=Stored())
    assert request.input["prompt"] == "a cover at night, as cover, 8 wide, "


def test_a_list_takes_pictures_of_a_chain_and_files(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (4, 5)).save(tmp_path / "style.png")
    text = """
model: google/nano-banana
prompts:
  mix: {each: book, prompt: in this style, image_input: ["{image}", style.png]}
"""
    first, *_ = load(tmp_path, "mix", book=BOOK, mix=text).requests(pictures=Stored())
    assert len(first.pictures) == 2
    assert first.input["image_input"] == [each.reference for each in first.pictures]
    style = first.pictures[1]
    assert (style.width, style.height, style.content_type) == (4, 5, "image/png")


def test_a_chain_of_three_is_planned_and_followed_to_its_end(tmp_path: Path) -> None:
    cut = """
model: 851-labs/background-remover
prompts: {cut: {each: print, image: "{image}"}}
"""
    write(tmp_path, book=BOOK, print=PRINT, cut=cut)
    sets = {each.name: each for each in load_prompt_sets(tmp_path)}
    names = [each.source.prompt_name for each in sets["cut"].requests()]
    assert names == ["cut-print-cover", "cut-print-page", "cut-print-page-take-2"]


@given(takes=st.integers(1, 3), shards=st.none() | st.integers(1, 3))
def test_followers_one_by_one_are_the_requests_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, takes: int, shards: int | None
) -> None:
    folder = tmp_path_factory.mktemp("chain")
    cut = f"partitions: {{by: shard, count: {shards}}}\n" if shards else ""
    book = BOOK.replace("takes: 2", f"takes: {takes}") + cut
    printed = load(folder, "print", book=book, print=PRINT)
    source = printed.sources["book"]
    whole = list(printed.requests(pictures=Stored()))
    single = [
        follower for made in source.requests() for follower in printed.followers(made, Stored())
    ]
    assert whole == single


def test_own_partitions_cut_the_followers_by_their_own_names(tmp_path: Path) -> None:
    text = PRINT + "partitions: {by: shard, count: 3}\n"
    printed = load(tmp_path, "print", book=BOOK, print=text)
    assert isinstance(printed.partitions, ByShard)
    keys = printed.partition_keys()
    by_key = [len(list(printed.requests(key, pictures=Stored()))) for key in keys]
    assert sum(by_key) == 3


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"print": PRINT}, "no prompt set book"),
        ({"print": PRINT, "books": BOOK}, "did you mean books"),
        ({"print": PRINT.replace("book", "print")}, "goes in a circle: print -> print"),
        (
            {"book": PRINT.replace("each: book", "each: print"), "print": PRINT},
            "goes in a circle: print -> book -> print",
        ),
        ({"print": PRINT, "book": BOOK + "colour: red\n"}, "book has mistakes of its own"),
        (
            {
                "book": BOOK + "partitions: {by: day, start: 2026-11-01}\n",
                "print": PRINT + "partitions: {by: shard, count: 2}\n",
            },
            "book is made by day",
        ),
        (
            {"book": BOOK, "print": PRINT + '  plain: {image: "https://example.com/a.png"}\n'},
            "partitions: are needed",
        ),
        ({"book": BOOK, "print": PRINT.replace("{image}", "{picture}")}, "unknown placeholder"),
        ({"book": BOOK, "print": PRINT.replace("scale: 4", "scale: 44")}, "scale"),
    ],
)
def test_what_is_wrong_with_a_chain_is_told_with_its_line(
    tmp_path: Path, files: dict[str, str], expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected) as error:
        load(tmp_path, "print", **files)
    assert all(problem.line > 0 for problem in error.value.problems)


def test_a_set_by_day_is_followed_day_by_day(tmp_path: Path) -> None:
    book = BOOK + "partitions: {by: day, start: 2026-11-01}\n"
    printed = load(tmp_path, "print", book=book, print=PRINT)
    one, other = (
        [each.request_sha256 for each in printed.requests(day, pictures=PlannedPictures())]
        for day in ("2026-11-02", "2026-11-03")
    )
    assert len(one) == 3
    assert set(one).isdisjoint(other)
    assert next(printed.requests("2026-11-02")).source.partition == "2026-11-02"
