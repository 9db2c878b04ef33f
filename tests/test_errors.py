"""Problems are listed once, sorted, and up to a limit a file."""

import pytest

from flux_pipeline.errors import MAX_PER_FILE, ConfigError, Problem, Problems


def test_no_problem_raises_nothing() -> None:
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


def test_the_same_problem_twice_is_listed_once() -> None:
    problems = Problems()
    for _ in range(3):
        problems.add("a.yaml", 1, "x", "wrong")
    assert problems.as_tuple() == (Problem("a.yaml", 1, "x", "wrong"),)


def test_problems_beyond_the_limit_are_counted_by_file() -> None:
    problems = Problems()
    for line in range(1, 251):
        problems.add("t.csv", line, "", "wrong")
    problems.add("a.yaml", 1, "", "wrong too")
    listed = problems.as_tuple()
    assert len(listed) == MAX_PER_FILE + 2
    assert Problem("t.csv", 0, "", "250 problems; 100 are listed") in listed
    assert Problem("a.yaml", 1, "", "wrong too") in listed


def test_the_problems_of_another_collector_are_added_whole() -> None:
    other, problems = Problems(), Problems()
    for line in range(1, 251):
        other.add("t.csv", line, "", "wrong")
    problems.add_all(other.as_tuple())
    assert problems.as_tuple() == other.as_tuple()
