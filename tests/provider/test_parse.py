"""Every shape of a prediction, read leniently; ids strictly; outputs by their file names."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.prediction import Output, Prediction, Status
from flux_pipeline.provider.parse import (
    is_id,
    outputs_of,
    outputs_of_data,
    parse_moment,
    parse_prediction,
)
from tests.provider.samples import ID, KEY, MODEL, VERSION, prediction_fields


def parsed(**changes: Any) -> Prediction:
    prediction = parse_prediction(prediction_fields(**changes), KEY)
    assert prediction is not None
    return prediction


def test_the_seed_documents_example_is_read() -> None:
    prediction = parsed()
    assert prediction.id == ID
    assert prediction.status is Status.STARTING
    assert prediction.outputs == ()
    assert prediction.model == MODEL
    assert prediction.version == VERSION
    assert prediction.input == {"prompt": "a castle", "num_outputs": 1, "seed": 7}
    assert prediction.error is None
    assert prediction.created_at == datetime(2025, 7, 29, 8, 58, 10, 978000, tzinfo=UTC)
    assert prediction.completed_at is None
    assert prediction.predict_seconds is None
    assert prediction.data_removed is False


@pytest.mark.parametrize(
    ("word", "status"),
    [
        *((each.value, each) for each in Status if each is not Status.UNKNOWN),
        ("SUCCEEDED", Status.SUCCEEDED),
        ("queued", Status.UNKNOWN),
        ("", Status.UNKNOWN),
        (None, Status.UNKNOWN),
        (7, Status.UNKNOWN),
        (["succeeded"], Status.UNKNOWN),
    ],
)
def test_status_words_are_the_apis_and_others_are_unknown(word: object, status: Status) -> None:
    assert parsed(status=word).status is status


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2025-07-29T08:58:10.978Z", 978_000),
        ("2025-07-29T08:58:10.9781Z", 978_100),
        ("2025-07-29T08:58:10.978123Z", 978_123),
        ("2025-07-29T08:58:10.9781234Z", 978_123),
        ("2025-07-29T08:58:10.978123456Z", 978_123),
        ("2025-07-29T10:58:10.978123456+02:00", 978_123),
        ("2025-07-29T08:58:10", 0),
        ("2025-07-29T08:58:10Z", 0),
    ],
)
def test_moments_have_any_number_of_digits(text: str, microsecond: int) -> None:
    assert parse_moment(text) == datetime(2025, 7, 29, 8, 58, 10, microsecond, tzinfo=UTC)


@pytest.mark.parametrize("value", [None, "", "soon", "2025-13-01", True, [], 1e300, float("nan")])
def test_what_is_no_moment_is_none(value: object) -> None:
    assert parse_moment(value) is None


@settings(deadline=None, max_examples=60)
@given(st.none() | st.booleans() | st.floats() | st.integers() | st.text())
def test_moments_never_raise(value: object) -> None:
    moment = parse_moment(value)
    assert moment is None or moment.tzinfo is UTC


def test_outputs_of_a_running_prediction_are_given_only_where_complete() -> None:
    urls = [f"https://a.b/out-{number}.webp" for number in range(4)]
    four = {"num_outputs": 4}
    assert parsed(status="processing", input=four, output=urls[:3]).outputs == ()
    assert len(parsed(status="processing", input=four, output=urls).outputs) == 4
    assert len(parsed(status="processing", input={"seed": 7}, output=urls[0]).outputs) == 1
    assert parsed(status="processing", input=None, output=urls).outputs == ()
    assert parsed(status="processing", input={"num_outputs": True}, output=urls).outputs == ()
    assert parsed(status="processing", input={"num_images": 2}, output=urls[:1]).outputs == ()
    assert parsed(status="processing", input={"seed": 7}, output=urls[:1]).outputs == ()


def test_a_short_list_of_a_finished_prediction_is_given_as_it_is() -> None:
    urls = ["https://a.b/out-0.webp", "https://a.b/out-3.webp"]
    prediction = parsed(status="succeeded", input={"num_outputs": 4}, output=urls)
    assert [each.index for each in prediction.outputs] == [0, 3]


def test_the_shape_without_an_id_is_finished() -> None:
    prediction = parse_prediction(
        {"created": 1753779490, "data": [{"url": "https://a.b/x.webp"}, {"b64_json": "aGk="}]}
    )
    assert prediction is not None
    assert prediction.id is None
    assert prediction.status is Status.SUCCEEDED
    assert prediction.outputs == (
        Output(0, "https://a.b/x.webp"),
        Output(1, "data:;base64,aGk="),
    )
    assert prediction.created_at == datetime(2025, 7, 29, 8, 58, 10, tzinfo=UTC)


def test_of_both_shapes_the_prediction_wins_and_its_images_are_found() -> None:
    prediction = parsed(status="succeeded", data=[{"url": "https://a.b/x.webp"}])
    assert prediction.id == ID
    assert prediction.outputs == (Output(0, "https://a.b/x.webp"),)


def test_an_id_that_is_none_does_not_hide_the_images_that_were_paid_for() -> None:
    prediction = parse_prediction({"id": "a//b", "data": [{"url": "https://a.b/x.webp"}]})
    assert prediction is not None
    assert prediction.id is None


@pytest.mark.parametrize(
    "value",
    [
        *("a", "nfg4nbtgm9rj00crankr6ft6t0", "A-b_9", "9" * 64, "a" * 255, "-a", "_", "a.b"),
        *("task.0b1c", "0b1c:flux/schnell", "a/b/c", "a@b", "{0b1c-77}", "MTIz=", "7~1"),
    ],
)
def test_ids_are_texts_that_fit_into_one_part_of_a_path(value: str) -> None:
    assert is_id(value)
    assert parsed(id=value).id == value


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            "a" * 256,
            "/a",
            "a/",
            "a//b",
            "a/./b",
            "a/../b",
            "..",
            ".",
            "a..b",
            "../a",
            "a\n",
            "a b",
            "a\\b",
            "a?b",
            "a#b",
        ),
        *("a%2fb", "a\x00", "a\x7f", "é", "٣", "a'b", 'a"b', "<a>", None, 7, 1.5, True, b"a"),
    ],
)
def test_nothing_else_is_an_id(value: object) -> None:
    assert not is_id(value)


@pytest.mark.parametrize("value", [0, 7, 2**63, 1234567890123456789012])
def test_a_whole_number_is_an_id_as_text(value: int) -> None:
    assert parsed(id=value).id == str(value)


@pytest.mark.parametrize("value", [True, 1.5, [7], {"a": 7}, None, 10**300])
def test_other_json_values_are_no_ids(value: object) -> None:
    assert parse_prediction(prediction_fields(id=value)) is None


def test_raw_holds_no_key_no_query_and_no_data_uri() -> None:
    prediction = parsed(
        status="succeeded",
        output=["data:image/webp;base64," + "A" * 5000, "https://a.b/out-1.webp?sig=secret"],
        logs=f"used {KEY}",
        error=f"key {KEY}",
        input={"hf_lora": "https://u:p@a.b/f.safetensors?token=secret"},
    )
    for text in (prediction.raw, prediction.logs, str(prediction.error), str(prediction.input)):
        assert KEY not in text
        assert "secret" not in text
        assert "u:p@" not in text
    assert len(prediction.raw) < 1500
    assert json.loads(prediction.raw)["output"][0] == "data:REDACTED"
    assert prediction.outputs[1].url.endswith("?sig=secret")
    assert "secret" not in repr(prediction)


def test_texts_hold_nothing_that_a_database_refuses() -> None:
    prediction = parsed(error="a\x00b\ud800c", logs="line\nnext\x1b[31m", model=7, version=None)
    assert prediction.error == "abc"
    assert prediction.logs == "line\nnext[31m"
    assert (prediction.model, prediction.version) == ("", "")
    prediction.raw.encode()


def test_errors_that_are_objects_are_shown_and_long_logs_keep_their_end() -> None:
    prediction = parsed(error={"code": "PA"}, logs="x" * 100_000 + "end")
    assert prediction.error == '{"code": "PA"}'
    assert len(prediction.logs) == 65536
    assert prediction.logs.endswith("end")


def test_a_reply_that_is_far_too_long_is_kept_by_its_name_alone() -> None:
    prediction = parsed(logs="x" * 300_000)
    assert json.loads(prediction.raw).keys() == {"id", "status", "cut"}
    assert parsed(status="x" * 300_000).raw == "{}"


@pytest.mark.parametrize(
    ("metrics", "seconds"),
    [
        ({"predict_time": 1.25}, 1.25),
        ({"predict_time": 2}, 2.0),
        ({"predict_time": -1}, None),
        ({"predict_time": "1"}, None),
        ({"predict_time": True}, None),
        ({}, None),
        (None, None),
        ([], None),
    ],
)
def test_predict_seconds_are_a_number_or_none(metrics: object, seconds: float | None) -> None:
    assert parsed(metrics=metrics).predict_seconds == seconds


@pytest.mark.parametrize("value", [None, False, "true", 1])
def test_data_is_removed_only_if_it_says_true(value: object) -> None:
    assert parsed(data_removed=value).data_removed is False
    assert parsed(data_removed=True).data_removed is True


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


def test_numbers_beside_a_picture_are_no_images() -> None:
    found = [{"picture": f"https://a.b/{name}.webp", "score": 0.5, "seed": 7} for name in "xy"]
    assert [each.url for each in outputs_of(found)] == [each["picture"] for each in found]


def test_what_is_no_image_leaves_the_others_where_they_stand() -> None:
    assert numbers("https://a.b/x.webp", None, "https://a.b/y.webp") == [0, 2]


URLS = [f"https://a.b/{name}.png" for name in ("one", "two", "three")]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ([{"image": URLS[0]}, {"image": URLS[1]}], [(0, URLS[0]), (1, URLS[1])]),
        (
            [{"image": URLS[0], "seed": 5, "note": None}, {"seed": 6}, {"image": URLS[1]}],
            [(0, URLS[0]), (2, URLS[1])],
        ),
        ({"image": URLS[0], "mask": URLS[1]}, [(0, URLS[0]), (1, URLS[1])]),
        ({"note": None, "seed": 5, "image": URLS[0], "text": "a castle"}, [(0, URLS[0])]),
        (
            {"images": [URLS[0], None, URLS[1]], "mask": URLS[2]},
            [(0, URLS[0]), (2, URLS[1]), (3, URLS[2])],
        ),
        ({"url": URLS[0], "thumbnail": URLS[1]}, [(0, URLS[0])]),
        (
            [None, {"image": None}, "data:image/png;base64,AAAA"],
            [(2, "data:image/png;base64,AAAA")],
        ),
        (URLS, list(enumerate(URLS))),
    ],
)
def test_every_address_of_an_output_is_an_image(
    value: object, found: list[tuple[int, str]]
) -> None:
    assert [(each.index, each.url) for each in outputs_of(value)] == found


def test_a_left_out_object_keeps_the_places_of_the_others_where_no_name_tells() -> None:
    assert numbers({"image": URLS[0]}, None, {"image": URLS[2]}) == [0, 2]


def test_metrics_are_the_numbers_that_the_provider_counted() -> None:
    metrics = {
        "predict_time": 1.5,
        "image_output_count": 2,
        "input_image_megapixels": 0,
        "total_time": "1",
        "is_cold": True,
        "below": -1,
        "nested": {"a": 1},
        "endless": float("inf"),
    }
    assert parsed(metrics=metrics).metrics == {
        "predict_time": 1.5,
        "image_output_count": 2.0,
        "input_image_megapixels": 0.0,
    }
    assert parsed(metrics=[1]).metrics == {}


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
