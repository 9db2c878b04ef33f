"""Messages: no secret, nothing invisible, nothing endless."""

from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.alerts import Kind, build_alert, safe_line

KEY = "r8_canary0123456789canary0123456789"


def test_known_secrets_are_taken_out_of_every_text() -> None:
    alert = build_alert(
        Kind.RUN_FAILED,
        f"failed with {KEY}",
        [
            f"Bearer {KEY}",
            "see https://user:password@host/x?token=abcdef",
            "data:image/png;base64,AA",
        ],
    )
    shown = "\n".join([alert.title, *alert.lines])
    for secret in (KEY, "password", "abcdef", "base64,AA"):
        assert secret not in shown


def test_lines_and_their_number_are_bounded() -> None:
    alert = build_alert(Kind.RUN_FAILED, "t" * 5_000, ["x" * 5_000] * 100)
    assert len(alert.title) == 300
    assert max(map(len, alert.lines)) == 300
    assert len(alert.lines) == 13
    assert alert.lines[-1] == "and 88 more lines"


@given(st.text())
def test_a_line_is_one_visible_line(text: str) -> None:
    line = safe_line(text)
    assert line.isprintable()
    assert len(line) <= 300


def test_what_turns_or_hides_text_is_shown_as_such() -> None:
    assert safe_line("a\u202eb\u200bc") == "a\\u202eb\\u200bc"
