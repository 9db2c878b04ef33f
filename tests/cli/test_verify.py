import shutil
from pathlib import Path

from flux_pipeline.audit.findings import Finding, Kind, Verification
from flux_pipeline.cli.verify import verification_text
from flux_pipeline.emulator.server import EmulatorServer
from tests.cli.conftest import Command, Make

KEYS = {
    "ok",
    "images",
    "lost",
    "orphaned",
    "paid_twice",
    "unreadable",
    "wrong_hash",
    "held",
    "notes",
}


def images(folder: Path) -> list[Path]:
    return sorted((folder / "data" / "store" / "images").rglob("*.jpg"))


def test_verify_exits_0_only_if_all_agree_but_for_findings_that_are_known(
    command: Command, make: Make, folder: Path
) -> None:
    make("tale", "map")

    code, output, _ = command("verify", "--deep", "--json")
    assert (code, set(output)) == (0, KEYS)
    assert (output["ok"], output["images"]) == (True, 3)

    gone, also_gone, broken = images(folder)
    gone.unlink()
    key = f"images/{gone.parent.name}/{gone.name}"
    assert command("verify")[0] == 1
    printed = (folder / "output.json").read_text()
    (line,) = [each for each in printed.splitlines() if each.startswith("lost ")]

    (folder / "known.txt").write_text(f"{line}\n")  # as it was printed

    assert command("verify", "--known", "known.txt")[0] == 0
    assert (folder / "output.json").read_text() == "2 images, all agree but for 1 known finding\n"
    code, output, _ = command("verify", "--known", "known.txt", "--json")
    assert (code, output["lost"], output["known"]) == (0, [], [key])

    also_gone.unlink()
    assert command("verify", "--known", "known.txt")[0] == 1
    (folder / "known.txt").write_text("gone\n")
    code, _, errors = command("verify", "--known", "known.txt")
    assert code == 2
    assert "known.txt:1: not a finding as verify prints it" in errors

    broken.write_bytes(b"no image")
    code, output, _ = command("verify", "--deep", "--json")
    assert (code, output["ok"], output["images"]) == (1, False, 1)
    assert key in output["lost"]
    assert output["unreadable"] == output["wrong_hash"] != []


def test_ledger_and_lineage_that_were_deleted_come_back_from_the_images(
    command: Command, make: Make, folder: Path, server: EmulatorServer
) -> None:
    make("tale", "map")
    shutil.rmtree(folder / "data" / "store" / "lineage")
    for path in (folder / "data").glob("ledger.db*"):
        path.unlink() if path.is_file() else shutil.rmtree(path)
    code, output, _ = command("verify", "--json")
    assert (code, len(output["orphaned"])) == (1, 3)

    code, output, _ = command("reindex", "--json")

    assert (code, output) == (
        0,
        {"ok": True, "images": 3, "rows": 3, "entries": 3, "failed": {}},
    )
    code, output, _ = command("run", "--json")
    assert (code, output["total"]["unchanged"], output["total"]["created"]) == (0, 3, 0)
    assert server.usage().creates_received == 3
    code, output, _ = command("verify", "--deep", "--json")
    assert (code, output["ok"]) == (0, True)


def test_reindex_exits_1_where_an_image_can_not_be_entered(
    command: Command, make: Make, folder: Path
) -> None:
    make("tale")
    stranger = images(folder)[0].with_name("holiday.jpg")
    stranger.write_bytes(b"no image")

    code, output, _ = command("reindex", "--json")

    assert (code, output["ok"], list(output["failed"])) == (1, False, ["images/tale/holiday.jpg"])


def test_people_get_a_line_a_finding_and_the_verdict() -> None:
    found = [Finding(Kind.LOST, f"images/{number}", "it is gone") for number in range(120)]
    held = Finding(Kind.HELD, "a" * 64, "end it")

    lines = verification_text(Verification(7, [held, *found], ["no list"])).splitlines()

    assert lines[0] == "lost images/0: it is gone"
    assert lines[100:] == [
        "lost: and 20 more; --json has all",
        f"held {'a' * 64}: end it",
        "note: no list",
        "7 images, 121 findings",
    ]
    assert verification_text(Verification(7)) == "7 images, all agree"
    unsure = Verification(7, complete=False)
    assert verification_text(unsure) == "7 images, 0 findings, and not everything could be compared"
