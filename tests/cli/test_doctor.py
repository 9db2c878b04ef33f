"""`flux-pipeline doctor`: what a run needs, each with what to do where it fails, for free."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flux_pipeline.cli.doctor import judge_clock
from flux_pipeline.emulator.server import EmulatorServer
from tests.cli.conftest import Command

CANARY = "canary-key-7f3a"


def by_check(output: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The worst finding of each check."""
    worst = sorted(
        output["checks"], key=lambda each: ("ok", "warning", "problem").index(each["level"])
    )
    return {each["check"]: each for each in worst}


def test_a_set_up_that_works_is_ok_and_nothing_is_created(
    command: Command, folder: Path, server: EmulatorServer
) -> None:
    code, output, errors = command("doctor", "--json", FLUX_API_KEY=CANARY)
    found = by_check(output)
    assert (code, output["ok"]) == (0, True), output
    checks = "versions environment settings key proxy endpoint clock store ledger disk"
    assert {*checks.split(), "prompt sets", "dagster home"} - {"settings"} == set(found)
    assert "the key is accepted" in found["endpoint"]["message"]
    assert found["clock"]["message"].startswith("within 60 s")
    assert found["prompt sets"]["message"] == "configs: map, tale"
    assert server.usage().creates_received == 0
    assert not any(path.is_file() for path in (folder / "data/store").rglob("*probe*"))
    assert CANARY not in (folder / "output.json").read_text() + errors


@pytest.mark.parametrize(
    ("environ", "check", "words"),
    [
        ({"FLUX_API_KEY": ""}, "key", "FLUX_API_KEY is not set"),
        ({"FLUX_PROVIDER": "http://127.0.0.1:9"}, "endpoint", "127.0.0.1:9"),
        ({"FLUX_STORE": "file:configs/map.yaml/store"}, "store", "configs/map.yaml"),
        ({"FLUX_LEDGER": "sqlite:///configs/map.yaml"}, "ledger", "map.yaml"),
        ({"DAGSTER_HOME": "relative"}, "dagster home", "is relative"),
        ({"FLUX_RATE": "fast"}, "settings", "FLUX_RATE"),
        ({"FLUX_CONFIGS": "nowhere"}, "prompt sets", "no such folder"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_a_problem_with_what_to_do_and_exit_code_1(
    command: Command, environ: Mapping[str, str], check: str, words: str
) -> None:
    code, output, _ = command("doctor", "--json", **environ)
    found = by_check(output)[check]
    assert (code, output["ok"], found["level"]) == (1, False, "problem")
    assert words in found["message"]
    assert found["todo"]


def test_the_text_names_each_check_and_has_no_colour_where_no_terminal_is(
    command: Command, folder: Path
) -> None:
    code, _, _ = command("doctor")
    lines = (folder / "output.json").read_text().splitlines()
    assert code == 0
    assert lines[0].startswith(f"ok       versions      Python {sys.version.split()[0]}")
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize(
    ("ahead", "level", "words"),
    [
        (None, "ok", "names no date"),
        (-3.0, "ok", "within 60 s"),
        (90.0, "warning", "90 s ahead of"),
        (-1000.0, "problem", "1000 s behind"),
    ],
)
def test_a_clock_that_is_off_is_named_with_its_side(
    ahead: float | None, level: str, words: str
) -> None:
    (found,) = judge_clock(ahead)
    assert (found.level, words in found.message) == (level, True)
