"""What is cut out of everything that is kept or said."""

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.provider.redact import redact_json, redact_text, shorten

R8 = "r8_" + "Ab3" * 12
HF = "hf_" + "Ab3" * 11
SK = "sk-" + "abc123-_" * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a castle: with towers", "a castle: with towers"),
        (f"key {R8}.", "key ***."),
        (f"({HF})", "(***)"),
        (f"{SK}", "***"),
        ("hf_lora r8_short sk-short", "hf_lora r8_short sk-short"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("https://a.b/c?d=e&f=g next", "https://a.b/c?*** next"),
        ("HTTPS://u:p@a.b/c", "HTTPS://a.b/c"),
        ("https://a.b/u@v?x", "https://a.b/u@v?***"),
        ("https://a.b?x=1", "https://a.b?***"),
        ("https://a.b/c", "https://a.b/c"),
        ("data:image/png;base64,AAAA", "data:image/png;base64,AAAA"),
        (
            "x data:image/png;base64," + "A" * 90 + " y",
            "x data:image/png;base64,(112 characters) y",
        ),
        ("a\x00b\x1b[0m\u009bc", "ab[0m\u009bc"),
        ("tab\tline\nend\r", "tab\tline\nend\r"),
        ("pair \U0001f600 lone \ud83d", "pair \U0001f600 lone "),
    ],
)
def test_texts(text: str, expected: str) -> None:
    assert redact_text(text) == expected


def test_the_own_key_is_cut_wherever_it_stands() -> None:
    assert redact_text("https://a.b/mykey/xmykeyx", "mykey", "") == "https://a.b/***/x***x"


def test_json_is_redacted_to_its_leaves_and_names() -> None:
    value: Any = {R8: [{"url": "https://a.b?c"}, 1, None, True], "x": {"y": SK}}
    assert redact_json(value) == {
        "***": [{"url": "https://a.b?***"}, 1, None, True],
        "x": {"y": "***"},
    }


@settings(deadline=None, max_examples=60)
@given(st.text())
def test_redaction_is_stable_and_can_be_written(text: str) -> None:
    once = redact_text(text)
    once.encode()
    assert "\x00" not in once
    assert redact_text(once) == once


@pytest.mark.parametrize(
    "piece", ["http://", "https://a@", "data:", "data:a,", "bearer ", "sk-", "a?b=", "r8_"]
)
def test_redaction_takes_linear_time(piece: str) -> None:
    text = piece * (2**20 // len(piece))
    begun = time.process_time()
    redact_text(text)
    assert time.process_time() - begun < 60.0, "a tenth of a second is usual, hours are not linear"


def test_a_long_line_is_cut_and_says_so() -> None:
    assert shorten("a  b\n c", 10) == "a b c"
    assert shorten("a" * 11, 10) == "a" * 9 + "…"
