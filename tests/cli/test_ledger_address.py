"""What the commands do with the address in FLUX_LEDGER: a pooler's, and a wrong one."""

from pathlib import Path

import pytest

from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.ledger.base import State
from flux_pipeline.ledger.open import open_ledger
from tests.cli.conftest import Command
from tests.servers.dagster_home import write_dagster_home
from tests.servers.pgbouncer import PgBouncer
from tests.servers.processes import start_program

SIXTY = """
model: lucataco/flux-schnell-lora
defaults: {output_format: jpg}
prompts:
  king: {prompt: a king, takes: 60}
"""


def write_worker(folder: Path) -> Path:
    """The folder of one worker, with a Dagster history of its own."""
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "many.yaml").write_text(SIXTY)
    write_dagster_home(folder)
    return folder


def test_two_workers_behind_a_pooler_make_sixty_images_once_each(
    tmp_path: Path, server: EmulatorServer, pgbouncer: PgBouncer
) -> None:
    url = pgbouncer.create_database()
    environ = {
        "FLUX_PROVIDER": f"{server.origin}/replicate",
        "FLUX_API_KEY": "test-key",
        "FLUX_LEDGER": url,
        "FLUX_STORE": f"file:{tmp_path}/store",
        "FLUX_RATE": "100000",
    }
    before = server.usage()
    folders = [write_worker(tmp_path / name) for name in ("one", "two")]
    workers = [start_program(["run", "--json"], folder=each, environ=environ) for each in folders]
    ended = [each.wait()[0] for each in workers]

    errors = "\n".join((each / "errors.txt").read_text() for each in folders)
    assert ended == [0, 0], errors
    assert server.usage().creates_accepted - before.creates_accepted == 60
    assert not set(server.usage().duplicates) - set(before.duplicates)
    assert len(list((tmp_path / "store" / "images").rglob("*.jpg"))) == 60
    with open_ledger(url) as ledger:
        assert [each.state for each in ledger.attempts()] == [State.STORED] * 60


@pytest.mark.parametrize("password", ["p@ca/nary", "12/canary#1"])
def test_an_ambiguous_address_is_one_message_and_nothing_of_it_is_kept(
    command: Command, folder: Path, server: EmulatorServer, password: str
) -> None:
    before = server.usage().creates_received
    url = f"postgresql://user:{password}@127.0.0.1:1/db"
    code, _, errors = command("run", "--json", FLUX_LEDGER=url)

    assert code == 2
    assert "FLUX_LEDGER: is ambiguous: encode @ as %40, / as %2F, # as %23, % as %25" in errors
    assert "Traceback" not in errors
    assert "nary" not in errors
    kept = [path for path in folder.rglob("*") if path.is_file() and b"nary" in path.read_bytes()]
    assert not kept
    assert server.usage().creates_received == before


def test_an_option_that_the_driver_does_not_know_is_one_message(command: Command) -> None:
    pytest.importorskip("psycopg", reason="needs Postgres: uv sync --extra postgres")
    url = "postgresql://127.0.0.1:1/db?pgbouncer=true"
    code, _, errors = command("run", "--json", FLUX_LEDGER=url)

    assert code == 1
    assert errors.count("\n") == 2, errors
    assert "FLUX_LEDGER holds what the driver (libpq) does not know: pgbouncer." in errors
