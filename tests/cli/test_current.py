"""Which picture is current, as edits of a prompt set come and go."""

import json
from pathlib import Path
from typing import Any

from tests.cli.conftest import Command, Make


def rows(command: Command, folder: Path) -> list[dict[str, Any]]:
    command("trace", "--set", "tale", "--json")
    found: list[dict[str, Any]] = json.loads((folder / "output.json").read_text())
    return found


def current(command: Command, folder: Path) -> dict[str, bool]:
    return {row["prompt"]: row["current"] for row in rows(command, folder)}


def edit(folder: Path, before: str, after: str) -> None:
    path = folder / "configs/tale.yaml"
    path.write_text(path.read_text().replace(before, after))


def test_an_edit_makes_a_picture_obsolete_and_taking_it_back_makes_it_current_for_nothing(
    command: Command, make: Make, folder: Path
) -> None:
    make("tale")
    assert current(command, folder) == {"a king": True, "a frog": True}

    edit(folder, "a frog", "a green frog")
    make("tale")
    assert current(command, folder) == {"a king": True, "a frog": False, "a green frog": True}
    (old,) = (row for row in rows(command, folder) if row["prompt"] == "a frog")
    _, traced, _ = command("trace", old["request_sha256"], "--json")
    assert traced["current"] is False
    command("trace", old["request_sha256"])
    assert "no: made of an earlier text" in (folder / "output.json").read_text()

    edit(folder, "a green frog", "a frog")
    _, output, _ = command("run", "tale", "--json")
    assert output["total"]["created"] == 0
    assert current(command, folder) == {"a king": True, "a frog": True, "a green frog": False}
