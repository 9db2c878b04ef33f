"""Ending what is held, and rescuing what was left, from the command line."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.ledger.base import Claimed, State
from flux_pipeline.ledger.open import open_ledger
from tests.cli.conftest import Command, Make
from tests.servers.processes import Death, run_command

HOLD = {"FLUX_UNKNOWN": "hold", "FLUX_SETTLE_SECONDS": "0"}


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    """Every first answer is lost, and there is no list."""
    options = EmulatorOptions(time_scale=0, render="cheap", list_enabled=False)
    with EmulatorServer(options, FaultPlan(create={"reset_after": 1.0}, cap=1)) as running:
        yield running


def test_what_is_held_is_listed_and_ended_in_three_ways(
    command: Command, server: EmulatorServer
) -> None:
    code, output, _ = command("run", "--json", **HOLD)
    assert (code, output["total"]["held"]) == (1, 3)

    code, output, _ = command("held", "list", "--json")
    assert (code, output["usd"], output["emulated"]) == (0, 0.009, True)
    by_prompt = {each["prompt"]: each["request"] for each in output["requests"]}
    assert set(by_prompt) == {"a king", "a frog", "a map"}
    ids = {each.input["prompt"]: each.id for each in server.usage().predictions}

    wrong = command("held", "adopt", by_prompt["a king"], ids["a frog"], "--json")
    assert wrong[0] == 1
    assert "it was made of another input" in wrong[2]
    code, output, _ = command("held", "adopt", by_prompt["a king"][:12], ids["a king"], "--json")
    assert (code, output["state"], output["paid_twice"]) == (0, "stored", False)

    code, output, errors = command("held", "drop", by_prompt["a frog"][:12], "--json")
    assert (code, errors) == (0, "")
    assert [each["prompt"] for each in output["requests"]] == ["a frog"]

    code, output, errors = command("held", "resend", "--json")
    assert (code, output) == (1, {})
    assert "send 1 again, for at most 0.0030 USD (emulated) more?" in errors
    code, output, _ = command("held", "resend", "--yes", "--json")
    assert (code, output["usd"]) == (0, 0.003)

    code, output, _ = command("run", "--json", **HOLD)
    total = output["total"]
    assert (code, total["unchanged"], total["stored"], total["failed"]) == (1, 1, 1, 1)
    assert server.usage().creates_accepted == 4
    code, output, _ = command("verify", "--json")
    assert (code, output["paid_twice"]) == (1, [by_prompt["a map"]])


def test_a_request_that_is_not_held_is_no_request_to_end(command: Command) -> None:
    code, _, errors = command("held", "drop", "abc")

    assert code == 2
    assert "abc: not the beginning of exactly one held request" in errors


def test_a_worker_that_died_after_the_answer_is_rescued(folder: Path, command: Command) -> None:
    with EmulatorServer(EmulatorOptions(time_scale=0, render="cheap")) as server:
        environ = {"FLUX_PROVIDER": f"{server.origin}/replicate", "FLUX_API_KEY": "test-key"}
        code, _ = run_command(
            ["run", "--json"],
            folder=folder,
            environ=environ,
            death=Death("WriteAccepted", after=True, nth=1),
        )
        assert code == -9

        with open_ledger(f"sqlite:///{folder}/data/ledger.db") as ledger:
            intent = replace(ledger.unfinished()[0].intent, request_sha256="f" * 64)
            assert isinstance(ledger.claim(intent, holder="another run"), Claimed)
            code, output, _ = command("rescue", "--json", **environ)
        assert output["claimed"] == 1  # of a process that lives

        # The process is known to be gone, so that nobody has to wait for the end of its claims.
        assert (code, output["ok"]) == (0, True)
        assert output["found"] >= output["states"]["stored"] >= 1
        assert output["notices"] == []
        code, output, _ = command("run", "--json", **environ)
        assert (code, output["total"]["asked"], server.usage().creates_accepted) == (0, 3, 3)


@pytest.mark.parametrize("by", ["rescue", "adopt"])
def test_what_was_believed_to_be_gone_is_fetched_by_its_id(
    folder: Path, command: Command, make: Make, by: str
) -> None:
    with EmulatorServer(EmulatorOptions(time_scale=0, render="cheap")) as server:
        environ = {"FLUX_PROVIDER": f"{server.origin}/replicate", "FLUX_API_KEY": "test-key"}
        death = Death("WriteSucceeded", after=True)
        arguments = ["run", "map", "--json"]
        assert run_command(arguments, folder=folder, environ=environ, death=death)[0] == -9
        with open_ledger(f"sqlite:///{folder}/data/ledger.db") as ledger:
            (attempt,) = ledger.unfinished()
            assert ledger.close(attempt, State.EXPIRED, holder="", error="paid and lost: a test")
        code, output, errors = command(*arguments, **environ)
        assert (code, output["total"]["stored"], output["total"]["created"]) == (1, 0, 0)
        assert "paid and lost" in errors
        assert "stored" not in command("rescue", "--json", **environ)[1]["states"]

        if by == "rescue":
            code, output, _ = command("rescue", "--expired", "--json", **environ)
            assert (code, output["ok"], output["found"]) == (0, True, 1)
            assert output["states"] == {"stored": 1}
        else:
            chosen = (attempt.request_sha256, str(attempt.prediction_id))
            code, output, _ = command("held", "adopt", *chosen, "--json", **environ)
            assert (code, output["state"]) == (0, "stored")

        code, output, _ = command("verify", "--json", **environ)
        assert (code, output["ok"]) == (0, True)
        make("map", **environ)
        assert server.usage().creates_accepted == 1
        code, output, _ = command("rescue", "--expired", "--json", **environ)
        assert (code, output["found"]) == (0, 0)


def test_what_is_truly_gone_is_said_once_more_and_stays_recorded_as_lost(
    folder: Path, command: Command, tmp_path: Path
) -> None:
    fast = EmulatorOptions(time_scale=0, render="cheap")
    gone = fast.model_copy(update={"retention_seconds": 0.0})
    with EmulatorServer(fast, state_dir=tmp_path / "provider") as server:
        environ = {"FLUX_PROVIDER": f"{server.origin}/replicate", "FLUX_API_KEY": "test-key"}
        death = Death("WriteSucceeded", after=True)
        arguments = ["run", "map", "--json"]
        assert run_command(arguments, folder=folder, environ=environ, death=death)[0] == -9
    with open_ledger(f"sqlite:///{folder}/data/ledger.db") as ledger:
        (attempt,) = ledger.unfinished()
        assert ledger.close(attempt, State.EXPIRED, holder="", error="paid and lost: a test")
    with EmulatorServer(gone, state_dir=tmp_path / "provider") as server:
        environ["FLUX_PROVIDER"] = f"{server.origin}/replicate"
        code, output, _ = command("rescue", "--expired", "--json", **environ)

        assert (code, output["ok"], output["found"]) == (1, False, 1)
        assert output["states"] == {"expired": 1}
        assert "paid and lost: prediction" in output["notices"][0]
