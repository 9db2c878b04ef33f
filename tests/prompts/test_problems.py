"""Problems come once, sorted, and not without end."""

import pytest

from flux_pipeline.errors import MAX_PER_FILE, ConfigError, Problem, Problems


def test_none_is_no_error() -> None:
    problems = Problems()
    assert not problems
    problems.raise_if_any()
    assert problems.as_tuple() == ()


def test_all_are_raised_at_once_by_file_and_line() -> None:
    problems = Problems()
    problems.add("b.yaml", 2, "x", "second")
    problems.add("a.yaml", 9, "", "first")
    problems.add("b.yaml", 1, "y", "before")
    with pytest.raises(ConfigError) as raised:
        problems.raise_if_any()
    assert str(raised.value) == "a.yaml:9: first\nb.yaml:1: y: before\nb.yaml:2: x: second"


def test_the_same_one_twice_is_one() -> None:
    problems = Problems()
    for _ in range(3):
        problems.add("a.yaml", 1, "x", "wrong")
    assert problems.as_tuple() == (Problem("a.yaml", 1, "x", "wrong"),)


def test_what_is_too_much_is_counted_by_file() -> None:
    problems = Problems()
    for line in range(1, 251):
        problems.add("t.csv", line, "", "wrong")
    problems.add("a.yaml", 1, "", "wrong too")
    listed = problems.as_tuple()
    assert len(listed) == MAX_PER_FILE + 2
    assert Problem("t.csv", 0, "", "250 problems; 100 are listed") in listed
    assert Problem("a.yaml", 1, "", "wrong too") in listed


def test_what_was_found_elsewhere_is_taken_over_whole() -> None:
    elsewhere, problems = Problems(), Problems()
    for line in range(1, 251):
        elsewhere.add("t.csv", line, "", "wrong")
    problems.add_all(elsewhere.as_tuple())
    assert problems.as_tuple() == elsewhere.as_tuple()
