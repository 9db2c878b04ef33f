"""`flux-pipeline prune`: lists by default, removes by choice; asked for again, it comes back."""

from pathlib import Path

from flux_pipeline.emulator.server import EmulatorServer
from tests.cli.conftest import Command, Make
from tests.cli.test_current import edit


def files(folder: Path) -> set[str]:
    return {path.name.partition("-")[0] for path in (folder / "data/store/images").rglob("*.jpg")}


def test_what_is_obsolete_is_listed_archived_brought_back_and_removed(
    command: Command, make: Make, server: EmulatorServer, folder: Path
) -> None:
    make("tale")
    edit(folder, "frog: a frog", "toad: a toad")
    _, nothing, _ = command("prune", "--json")
    assert nothing["files"] == 0  # as nobody has read the edit yet, the frog is current
    make("tale")

    code, listed, _ = command("prune", "--json")
    assert (code, listed["files"], listed["kept"]) == (0, 1, [])
    (frog,) = listed["obsolete"]
    assert (frog["set"], frog["prompt"], frog["bytes"]) == ("tale", "frog", listed["bytes"])
    assert files(folder) == {"king", "frog", "toad"}
    command("prune")
    said = (folder / "output.json").read_text()
    assert "obsolete: 1 picture, " in said
    assert said.endswith("nothing was changed; --archive URI or --delete removes them\n")

    code, _, errors = command("prune", "--delete")
    assert code == 2
    assert "no terminal to ask on: --yes says to remove for good 1 picture" in errors
    code, _, errors = command("prune", "--archive", "file:data/store/old", "--yes")
    assert code == 2
    assert "lie in each other: name another place" in errors

    code, done, _ = command("prune", "--archive", "file:old", "--yes", "--json")
    assert (code, done["ok"], done["files"], done["archived"]) == (0, True, 1, 1)
    assert files(folder) == {"king", "toad"}
    _, traced, _ = command("trace", frog["request_sha256"], "--json")
    assert traced["record"]["status"] == "removed"
    assert traced["record"]["archived_uri"].startswith((folder / "old").as_uri())
    command("trace", frog["request_sha256"])
    assert ", a copy lies at file:///" in (folder / "output.json").read_text()
    assert command("verify", "--json")[0] == 0

    edit(folder, "toad: a toad", "frog: a frog")
    _, listed, _ = command("prune", "--json")
    assert listed["files"] == 0  # the toad is current until a run has read the file
    command("plan", "tale")
    said = (folder / "output.json").read_text()
    assert "1 request was pruned: brought back from the archive, for free" in said
    paid = server.usage().creates_accepted
    make("tale")
    assert server.usage().creates_accepted == paid
    assert files(folder) == {"king", "frog", "toad"}

    code, done, _ = command("prune", "tale", "--delete", "--yes", "--json")
    assert (code, [each["prompt"] for each in done["removed"]]) == (0, ["toad"])
    edit(folder, "frog: a frog", "toad: a toad")
    _, total, _ = command("plan", "tale", "--json")
    assert (total["total"]["pruned"], total["total"]["new"]) == (1, 0)
    command("plan", "tale")
    assert (
        "1 request was pruned: made again, and paid again" in (folder / "output.json").read_text()
    )
