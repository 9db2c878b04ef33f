import io
import sys

import pytest

from flux_pipeline.cli.plain import plain, survive_any_encoding


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        ("one\ntwo\r\tthree", r"one\ntwo\r\tthree"),
        ("\u202eabc\u2066", r"\u202eabc\u2066"),
        ("\x9b31m", r"\x9b31m"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("城堡 قلعة 👨\u200d👩\u200d👧 é", "城堡 قلعة 👨\u200d👩\u200d👧 é"),
        (None, "None"),
        (7, "7"),
    ],
)
def test_what_a_terminal_would_act_upon_is_spelled_out(text: object, shown: str) -> None:
    assert plain(text) == shown


def test_a_stream_of_another_encoding_shows_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    body = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(body, encoding="ascii"))
    survive_any_encoding()
    print("城", flush=True)  # noqa: T201
    assert body.getvalue() == b"\\u57ce\n"
