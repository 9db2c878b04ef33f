"""What a command that sends says at its start: provider, store and ledger, and where from."""

import json
import re
from pathlib import Path

import pytest

from flux_pipeline.cli.announcement import describe_setup, shown_ledger
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.project import EnvFile
from flux_pipeline.settings import Settings
from tests.cli.conftest import Command, Make
from tests.servers.processes import start_program

CANARY = "canary-key-7f3a"


def test_the_env_file_counts_for_a_run_and_the_first_line_says_what_is_used(
    folder: Path, server: EmulatorServer
) -> None:
    (folder / ".env").write_text(
        f"FLUX_PROVIDER={server.origin}/replicate\nFLUX_API_KEY={CANARY}\nFLUX_STORE=file:out\n"
    )
    environ = {"FLUX_LEDGER": "sqlite:///own.db", "FLUX_STORE": "file:elsewhere"}
    running = start_program(["run", "map", "--json"], folder=folder, environ=environ)
    code, printed = running.wait()
    first = running.errors.read_text().splitlines()[0]

    assert (code, json.loads(printed)["total"]["stored"]) == (0, 1)
    assert server.usage().creates_accepted == 1
    assert (folder / "out/lineage").is_dir()
    assert not (folder / "elsewhere").exists()
    assert first == (
        f"provider {server.origin}/replicate (.env),"
        f" store file://{folder}/out (.env, which replaces the environment's),"
        f" ledger sqlite:///{folder}/own.db (environment)"
    )
    assert CANARY not in printed + running.errors.read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        ("rescue", "--json"),
        ("held", "resend", "--yes", "--json"),
        ("retry", "map", "--json"),
        ("alert", "--test"),
    ],
    ids=" ".join,
)
def test_every_command_that_sends_says_it_on_standard_error(
    command: Command, make: Make, arguments: tuple[str, ...]
) -> None:
    make("map")
    _, _, errors = command(*arguments, FLUX_ALERT_URL="http://127.0.0.1:9/token")
    said = [line for line in errors.splitlines() if line.startswith("provider ")]
    if arguments[0] == "retry":  # nothing has failed: nothing is sent
        assert said == []
        return
    assert re.match(r"provider http://\S+ \(environment\), store file:///\S+ \(default\)", said[0])
    assert ("1 webhook (environment)" in said[0]) == (arguments[0] == "alert")
    assert "token" not in said[0]


def test_commands_that_send_nothing_say_nothing(command: Command) -> None:
    assert "store file:" not in command("plan", "map", "--json")[2]


@pytest.mark.parametrize(
    ("ledger", "shown"),
    [
        ("postgresql://u:secret@db.example:6543/flux?sslmode=require", "db.example:6543/flux"),
        ("postgresql+psycopg://u:secret@one,two/flux", "postgresql+psycopg://one,two/flux"),
        ("sqlite:///data/l.db", f"sqlite:///{Path.cwd()}/data/l.db"),
        ("sqlite:////data/l.db", "sqlite:////data/l.db"),
        ("sqlite://", "sqlite://"),
    ],
)
def test_a_ledgers_address_is_shown_without_user_password_and_query(
    ledger: str, shown: str
) -> None:
    found = shown_ledger(ledger)
    assert found.endswith(shown)
    assert not {"secret", "sslmode", "u:"} & set(re.split(r"[/@?=]", found))


def test_a_file_in_another_folder_is_named_with_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUX_STORE", "file:x")
    env_file = EnvFile(tmp_path / ".env", frozenset({"FLUX_STORE"}))
    assert f"store file://{Path.cwd()}/x ({tmp_path}/.env)" in describe_setup(
        Settings(store="file:x"), env_file
    )
