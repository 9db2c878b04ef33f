"""`flux-pipeline retry`: what failed or was refused is asked for again, and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.ledger.base import Claimed, State
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.produce.policy import Policy
from tests.servers.processes import make_images_of, run_command

TRIES = Policy().failed_tries
FAST = EmulatorOptions(time_scale=0, render="cheap")
BROKEN = FaultPlan(outcome={"failed_permanent": 1.0}, only_prompts="frog", cap=1000)
FILTER = FaultPlan(outcome={"failed_nsfw": 1.0}, only_prompts="frog", cap=1000)


@contextmanager
def serving(folder: Path, faults: FaultPlan | None = None) -> Iterator[EmulatorServer]:
    """A provider that remembers what it has made when it is started again, then without faults."""
    with EmulatorServer(FAST, faults, state_dir=folder / "provider") as running:
        yield running


def environment(server: EmulatorServer) -> dict[str, str]:
    return {"FLUX_PROVIDER": f"{server.origin}/replicate", "FLUX_API_KEY": "test-key"}


def make(folder: Path, server: EmulatorServer) -> None:
    """Ask for the images of the prompt set tale, without Dagster's run."""
    make_images_of(["tale"], folder=folder, environ=environment(server))


def call(
    folder: Path, server: EmulatorServer, *arguments: str, **more: str
) -> tuple[int, dict[str, Any], str]:
    """Exit code, JSON and standard error; text on standard output is under ``text``."""
    environ = environment(server) | more
    (folder / "errors.txt").unlink(missing_ok=True)
    code, output = run_command(arguments, folder=folder, environ=environ | {"COLUMNS": "200"})
    output["text"] = (folder / "output.json").read_text()
    return code, output, (folder / "errors.txt").read_text()


def fail_more_often(folder: Path, times: int) -> None:
    """Note further failures of the one request that has failed, as so many runs would."""
    with open_ledger(f"sqlite:///{folder}/data/ledger.db") as ledger:
        for number in range(times):
            failed = max(ledger.in_state(State.FAILED), key=lambda each: each.number)
            claim = ledger.claim(failed.intent, holder="a run", after=failed.number)
            assert isinstance(claim, Claimed)
            ledger.accept(claim.attempt, prediction_id=f"failed{number}", reply="{}")
            assert ledger.close(claim.attempt, State.FAILED, holder="a run", retryable=True)


def test_what_failed_too_often_is_asked_again_by_hand_and_said_by_plan_before(
    folder: Path,
) -> None:
    with serving(folder, BROKEN) as server:
        for is_last in (False, True):
            code, output, errors = call(folder, server, "run", "tale", "--json")
            assert (code, output["total"]["failed"]) == (1, 1)
            advice = "`flux-pipeline retry` asks again" if is_last else "the next run asks again"
            assert advice in errors
            total = call(folder, server, "plan", "tale", "--json")[1]["total"]
            assert (total["retry"], total["refused"]) == ((0, 1) if is_last else (1, 0))
            assert (total["new"], total["usd"]) == (0, 0.0 if is_last else 0.003)
            if not is_last:
                fail_more_often(folder, TRIES - 2)
        assert server.usage().creates_accepted == 3
        make(folder, server)  # asks no more
        assert server.usage().creates_accepted == 3

        code, output, _ = call(folder, server, "retry", "--dry-run", "--json")
        assert code == 0
        ((only,), usd) = (output["requests"], output["usd"])
        assert output["emulated"] is True
        assert (only["set"], only["prompt"], only["state"], usd) == (
            "tale",
            "frog",
            "failed",
            0.003,
        )
        assert "Cannot load LoRA weights" in only["reason"]
        code, output, _ = call(folder, server, "retry", "--dry-run")
        assert output["text"].startswith(
            "1 request to ask again, 0.0030 USD (emulated)\n1 x prediction "
        )
        before = server.usage().creates_accepted
        code, output, errors = call(folder, server, "retry", "--failed")
        assert (code, server.usage().creates_accepted) == (1, before + 1)
        assert "1 request to ask again, 0.0030 USD" in errors
        assert "`flux-pipeline retry` asks again" in output["text"]
        make(folder, server)  # it has failed again, and waits again
        assert server.usage().creates_accepted == before + 1

    with serving(folder) as server:  # the weights are there now
        code, output, errors = call(folder, server, "retry", "tale", "--json")
        assert (code, output["total"]["stored"], output["total"]["unchanged"]) == (0, 1, 0)
        assert set(output["sets"]) == {"tale"}
        assert server.usage().creates_accepted == before + 2
        code, output, _ = call(folder, server, "retry")
        assert (code, output["text"]) == (0, "0 requests to ask again, 0.0000 USD (emulated)\n")


def test_what_was_refused_is_asked_again_with_refused_alone(folder: Path) -> None:
    with serving(folder, FILTER) as server:
        make(folder, server)
        before = server.usage().creates_accepted
        assert call(folder, server, "retry", "--json")[1]["requests"] == []
        assert call(folder, server, "retry", "--failed", "--json")[1]["requests"] == []
        assert server.usage().creates_accepted == before

    with serving(folder) as server:
        code, output, _ = call(folder, server, "retry", "--refused", "--json")
        assert (code, output["total"]["stored"]) == (0, 1)
        assert server.usage().creates_accepted == before + 1


def test_one_prompt_can_be_chosen_and_what_was_never_made_stays_so(folder: Path) -> None:
    broken = FaultPlan(outcome={"failed_permanent": 1.0}, cap=1000)
    with serving(folder, broken) as server:
        make(folder, server)
        assert server.usage().creates_accepted == 2

    with serving(folder) as server:
        code, output, _ = call(folder, server, "retry", "--prompt", "king", "--json")
        assert (code, output["total"]["asked"], output["total"]["stored"]) == (0, 1, 1)
        assert server.usage().creates_accepted == 3  # neither the frog nor the map
        code, _, errors = call(folder, server, "retry", "--prompt", "nosuch")
        assert (code, "no prompt nosuch in map, tale" in errors) == (2, True)
        code, _, errors = call(folder, server, "retry", "nosuch")
        assert (code, "no prompt set nosuch; it has map, tale" in errors) == (2, True)


def test_a_retry_is_within_the_budgets_and_needs_a_key(folder: Path) -> None:
    with serving(folder, BROKEN) as server:
        make(folder, server)
        before = server.usage().creates_received
        code, output, _ = call(folder, server, "retry", "--json", FLUX_BUDGET_USD_PER_DAY="0.001")
        assert (code, output["total"]["unsent"], output["total"]["created"]) == (1, 1, 0)
        code, _, errors = call(folder, server, "retry", FLUX_API_KEY="")
        assert (code, "FLUX_API_KEY" in errors) == (2, True)
        assert server.usage().creates_received == before


def test_days_that_have_begun_are_looked_at(folder: Path) -> None:
    (folder / "configs/diary.yaml").write_text(
        "model: lucataco/flux-schnell-lora\npartitions: {by: day, start: 2026-11-01}\n"
        "prompts: {frog: 'a frog on {date}'}\n"
    )
    with serving(folder, BROKEN) as server:
        call(folder, server, "run", "diary", "--partition", "2026-11-03", "--json")

    with serving(folder) as server:
        code, output, _ = call(folder, server, "retry", "diary", "--json")
        assert (code, output["total"]["asked"], output["total"]["stored"]) == (0, 1, 1)


@pytest.mark.parametrize("form", ["table", "markdown"])
def test_plan_shows_what_is_retried_in_every_form(folder: Path, form: str) -> None:
    with serving(folder, BROKEN) as server:
        make(folder, server)
        flags = ["--markdown"] if form == "markdown" else []
        _, output, _ = call(folder, server, "plan", "tale", *flags)

    if form == "markdown":
        wanted = (
            "**0 new requests and 1 that failed before for 1 image, 0.0030 USD (emulated)** would"
            " be sent."
        )
        assert wanted in output["text"]
    text = output["text"].replace("USD (emulated)", "USD")
    lines = [line.replace("|", " ").split() for line in text.splitlines()]
    (heading,) = [words for words in lines if words[:2] == ["prompt", "set"]]
    (row,) = [words for words in lines if words[:1] == ["tale"]]
    assert dict(zip(heading[2:], row[1:], strict=True)) == {
        "requests": "2",
        "images": "2",
        "unchanged": "1",
        "new": "0",
        "retry": "1",
        "resumed": "0",
        "held": "0",
        "refused": "0",
        "USD": "0.0030",
        "time": "0:00",
    }
