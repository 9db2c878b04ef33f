"""What a person has looked into is named once, and counts no more."""

from pathlib import Path

import pytest

from flux_pipeline.audit.findings import Finding, Kind, Verification, read_acknowledged, set_aside
from flux_pipeline.errors import ConfigError

GONE = Finding(Kind.LOST, "images/a/b-0.webp", "it is not there")
TWICE = Finding(Kind.PAID_TWICE, "ab12", "possibly")
BROKEN = Finding(Kind.UNREADABLE, "images/a/c-0.webp", "it does not decode")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "known.txt"


def test_lines_are_read_as_verify_prints_them_with_remarks(file: Path) -> None:
    file.write_bytes(
        b"\xef\xbb\xbf# looked into\r\n\r\nlost images/a/b-0.webp: taken down: see 4711\r\n"
        b"  paid_twice   ab12\nheld cd34:\n"
    )
    assert read_acknowledged(file) == {
        (Kind.LOST, "images/a/b-0.webp"): 3,
        (Kind.PAID_TWICE, "ab12"): 4,
        (Kind.HELD, "cd34"): 5,
    }


def test_every_line_that_is_none_is_named(file: Path) -> None:
    file.write_text("lost a\nmislaid b: c\nlost\nlost a b\n")
    with pytest.raises(ConfigError) as raised:
        read_acknowledged(file)
    assert [each.line for each in raised.value.problems] == [2, 3, 4]
    assert "known.txt:2: not a finding as verify prints it: a kind (lost," in str(raised.value)


@pytest.mark.parametrize(
    ("content", "why"), [(None, "No such file"), (b"lost \xff", "it is not UTF-8")]
)
def test_a_file_that_cannot_be_read_is_named(file: Path, content: bytes | None, why: str) -> None:
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=f"known.txt: can't be read: {why}"):
        read_acknowledged(file)


def test_what_is_known_does_not_count_and_the_rest_does(file: Path) -> None:
    result = Verification(findings=[GONE, TWICE])
    set_aside(result, {(Kind.LOST, GONE.id): 1}, path=file, deep=False)
    assert (result.acknowledged, result.findings, result.ok) == ([GONE], [TWICE], False)

    result = Verification(findings=[GONE])
    set_aside(result, {(Kind.LOST, GONE.id): 1}, path=file, deep=False)
    assert (result.ok, result.notes) == (True, [])


def test_the_same_id_of_another_kind_is_another_finding(file: Path) -> None:
    result = Verification(findings=[GONE])
    set_aside(result, {(Kind.ORPHANED, GONE.id): 1}, path=file, deep=False)
    assert not result.ok


def test_a_line_that_names_nothing_any_more_is_said(file: Path) -> None:
    known = {(Kind.LOST, GONE.id): 3, (Kind.UNREADABLE, BROKEN.id): 4}
    said = [f"{file}:3: lost {GONE.id} is found no more: take the line out"]

    result = Verification()
    set_aside(result, known, path=file, deep=False)
    assert (result.ok, result.notes) == (True, said)  # what only --deep finds was not looked for

    result = Verification()
    set_aside(result, known, path=file, deep=True)
    assert len(result.notes) == 2

    result = Verification(complete=False)
    set_aside(result, known, path=file, deep=True)
    assert result.notes == []
