"""The folder in which Dagster keeps its runs: made once, and named when it can't be used."""

import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flux_pipeline.cli import main
from flux_pipeline.cli.workspace import dagster_home, read_settings
from flux_pipeline.defs.launch import open_instance
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from tests.servers.processes import make_images_of, run_command, start_program

OPEN_HOME = f"{__name__}:open_home"
SET = "model: lucataco/flux-schnell-lora\ndefaults: {output_format: jpg}\nprompts: {map: a map}\n"


@pytest.fixture(scope="module")
def server() -> Iterator[EmulatorServer]:
    with EmulatorServer(EmulatorOptions(time_scale=0, render="cheap")) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with one prompt set, in which nothing was ever started."""
    write_set(tmp_path)
    return tmp_path


def write_set(folder: Path) -> None:
    (folder / "configs").mkdir(parents=True)
    (folder / "configs/map.yaml").write_text(SET)


def environ(server: EmulatorServer, **more: str) -> dict[str, str]:
    return {"FLUX_PROVIDER": f"{server.origin}/replicate", "FLUX_API_KEY": "test-key"} | more


def call(
    folder: Path, server: EmulatorServer, *arguments: str, **more: str
) -> tuple[int, dict[str, Any], str]:
    (folder / "errors.txt").unlink(missing_ok=True)
    code, output = run_command(arguments, folder=folder, environ=environ(server, **more))
    return code, output, (folder / "errors.txt").read_text()


def open_home() -> None:
    """As a run begins."""
    read_settings(None)
    with open_instance(dagster_home()):
        pass


def test_first_runs_at_once_make_the_home_once_and_all_end_well(
    place: Path, server: EmulatorServer
) -> None:
    """Two runs, each with a ledger and a store of its own, among others that open the home."""
    home, workers = place / "home", [place / f"worker-{number}" for number in range(4)]
    home.mkdir()
    for worker in workers:
        write_set(worker)
    shared = environ(server, DAGSTER_HOME=str(home))
    started = [
        *(start_program((), folder=each, environ=shared, entry=OPEN_HOME) for each in workers[2:]),
        *(start_program(["run", "--json"], folder=each, environ=shared) for each in workers[:2]),
    ]
    ended = [each.wait()[0] for each in started]

    assert ended == [0] * 4, "\n".join((each / "errors.txt").read_text() for each in workers)
    for database in ("history/runs.db", "history/runs/index.db", "schedules/schedules.db"):
        with sqlite3.connect(home / database) as connection:
            assert len(connection.execute("SELECT * FROM alembic_version").fetchall()) == 1
        connection.close()


def test_a_broken_home_is_named_with_what_to_do_and_nothing_else_is_lost(
    place: Path, server: EmulatorServer
) -> None:
    assert start_program((), folder=place, environ=environ(server), entry=OPEN_HOME).wait()[0] == 0
    make_images_of(["map"], folder=place, environ=environ(server))
    history = place / "data/dagster/history"
    schedules = history.with_name("schedules")
    paid = server.usage().creates_accepted
    for what in ("two versions", "no database"):
        if what == "two versions":
            with sqlite3.connect(history / "runs.db") as connection:
                connection.execute("INSERT INTO alembic_version VALUES ('another')")
            connection.close()
        else:
            (history / "runs.db").write_bytes(b"no database" * 1000)
        code, output, errors = call(place, server, "run", "--json")
        assert (code, output) == (2, {})
        _, line = errors.splitlines()
        assert "Dagster's history of runs is broken" in line
        assert f"move {history} and {schedules} away and start again" in line

    history.rename(place / "broken history")
    schedules.rename(place / "broken schedules")
    code, output, _ = call(place, server, "run", "--json")
    assert (code, output["total"]["unchanged"]) == (0, 1)
    assert server.usage().creates_accepted == paid


def test_a_home_that_cannot_be_made_is_one_message(place: Path, server: EmulatorServer) -> None:
    (place / "file").write_text("no folder")
    before = server.usage().creates_received
    (place / "data").write_text("no folder")
    code, _, errors = call(place, server, "run", "--json", FLUX_STORE="file:store")
    _, line = errors.splitlines()
    assert (code, f"{place}/data/dagster: can't be written (" in line) == (2, True)
    assert server.usage().creates_received == before


def test_a_home_that_dagster_would_refuse_is_one_message_with_what_to_do(
    place: Path, server: EmulatorServer
) -> None:
    (place / "file").write_text("no folder")
    (place / "here").mkdir()
    before = server.usage().creates_received
    for home, words in (
        (f"{place}/file", f"names {place}/file, which is no folder"),
        (f"{place}/file/home", f"names {place}/file/home, which can't be used (Not a directory)"),
        (f"{place}/no where", f"mkdir -p '{place}/no where', or name another folder"),
        ("here", "is relative (here), which Dagster refuses: write the whole path"),
        ("~nobody_known/home", "is relative (~nobody_known/home)"),
        (f'"{place}/here', "has a quote at one end alone"),
    ):
        code, output, errors = call(place, server, "run", "--json", DAGSTER_HOME=home)
        assert (code, output) == (2, {})
        *_, line = errors.splitlines()
        assert line.startswith("environment: DAGSTER_HOME: ")
        assert words in line
    assert server.usage().creates_received == before
    assert not (place / "no where").exists()


@pytest.mark.parametrize("home", [' "~/home"\r', "\ufeffHOME/home"])
def test_a_home_is_the_folder_that_dagster_takes_whatever_is_around_its_name(
    place: Path, home: str
) -> None:
    (place / "home").mkdir()
    given = {"HOME": str(place), "DAGSTER_HOME": home.replace("HOME", str(place))}
    assert start_program((), folder=place, environ=given, entry=OPEN_HOME).wait()[0] == 0
    assert (place / "home/history/runs.db").is_file()
    assert not (place / "data/dagster").exists()


@pytest.mark.parametrize("home", ["", '""'])
def test_an_empty_home_counts_as_none_as_dagster_has_it(place: Path, home: str) -> None:
    given = {"DAGSTER_HOME": home}
    assert start_program((), folder=place, environ=given, entry=OPEN_HOME).wait()[0] == 0
    assert (place / "data/dagster/history/runs.db").is_file()


def test_settings_of_dagster_that_are_wrong_are_one_message(
    place: Path, server: EmulatorServer
) -> None:
    (place / "dagster.yaml").write_text("storage: {nosuch: 1}\n")
    code, _, errors = call(place, server, "run", "--json")
    assert (code, "Traceback" in errors) == (2, False)
    assert "dagster.yaml: is no settings of Dagster: " in errors


def run_on_a_small_disk() -> None:
    """The command line, where no file may be larger than 60 kB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
    main()


def test_a_home_on_a_full_disk_is_one_message(place: Path, server: EmulatorServer) -> None:
    """A limit on files' sizes fails writes as a full disk does."""
    before = server.usage().creates_received
    code, _ = start_program(
        ["run", "--json"],
        folder=place,
        environ=environ(server),
        entry=f"{__name__}:run_on_a_small_disk",
    ).wait()

    _, line = (place / "errors.txt").read_text().splitlines()
    assert code == 2
    assert "DAGSTER_HOME: can't be written (disk I/O error): make room there" in line
    assert server.usage().creates_received == before
