"""Images are numbered by their file names, not by where they stand."""

import pytest

from flux_pipeline.provider.parse import outputs_of, outputs_of_data


def numbers(*urls: object) -> list[int]:
    return [each.index for each in outputs_of(list(urls))]


def test_names_number_the_images_and_order_them() -> None:
    names = ("https://a.b/x/out-3.webp", "https://a.b/y/out-0.webp", "https://a.b/z/out-1.webp")
    outputs = outputs_of(list(names))
    assert [each.index for each in outputs] == [0, 1, 3]
    assert outputs[2].url == names[0]


def test_queries_don_t_hide_a_name() -> None:
    assert numbers("https://a.b/out-2.png?x=out-0.png", "https://a.b/out-1.png#f") == [1, 2]


@pytest.mark.parametrize(
    "urls",
    [
        ("https://a.b/one.webp", "https://a.b/two.webp"),
        ("https://a.b/out-7.webp", "https://a.b/two.webp"),
        ("https://a.b/out-7.webp", "https://a.b/out-7.webp"),
        ("https://a.b/out-1234.webp", "https://a.b/out-0.webp"),
        ("https://a.b/out-5.webp/other", "https://a.b/out-0.webp"),
        ("data:image/png;base64,AAAA", "data:image/png;base64,BBBB"),
        ("https://[/out-1.webp", "https://a.b/out-0.webp"),
    ],
)
def test_positions_count_where_no_name_tells(urls: tuple[str, ...]) -> None:
    assert numbers(*urls) == [0, 1]


@pytest.mark.parametrize("value", [None, "", 7, True, {}, [], [None, 7, [], {}], "file:///etc"])
def test_what_holds_no_url_holds_no_image(value: object) -> None:
    assert outputs_of(value) == ()


def test_a_string_and_an_object_are_one_image() -> None:
    assert outputs_of("https://a.b/out-0.webp") == outputs_of({"url": "https://a.b/out-0.webp"})
    assert len(outputs_of("https://a.b/out-0.webp")) == 1


def test_what_is_no_image_leaves_the_others_where_they_stand() -> None:
    assert numbers("https://a.b/x.webp", None, "https://a.b/y.webp") == [0, 2]


def test_a_list_without_end_is_cut() -> None:
    assert len(outputs_of(["https://a.b/x.webp"] * 10_000)) == 64


def test_inline_images_become_data_uris() -> None:
    outputs = outputs_of_data([{"b64_json": "QUFB"}, {"b64_json": "data:image/png;base64,QkJC"}])
    assert [each.url for each in outputs] == [
        "data:;base64,QUFB",
        "data:image/png;base64,QkJC",
    ]


def test_a_representation_shows_no_url() -> None:
    assert "a.b" not in repr(outputs_of("https://a.b/out-0.webp?sig=1"))
