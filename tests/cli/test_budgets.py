"""Budgets through the command line: to the last request that fits, and no further."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flux_pipeline.emulator.server import EmulatorServer
from tests.cli.conftest import Command
from tests.servers.dagster_home import write_dagster_home
from tests.servers.processes import run_command

HEAD = "model: lucataco/flux-schnell-lora\ndefaults: {output_format: jpg, aspect_ratio: 9:21}\n"
FIVE = "prompts: {a: one, b: two, c: three, d: four, e: five}\n"


def test_the_line_is_reached_and_not_crossed_and_the_plan_says_so_before_and_after(
    command: Command, folder: Path, server: EmulatorServer
) -> None:
    (folder / "configs/poor.yaml").write_text(f"{HEAD}budget: {{usd_per_month: 0.009}}\n{FIVE}")
    words = "poor: budget usd_per_month 0.009: {} of {} new requests fit; raise it to 0.015\n"
    command("plan", "poor")
    assert words.format(3, 5) in (folder / "output.json").read_text()

    code, output, _ = command("run", "poor", "--json")
    assert (code, output["total"]["stored"], output["total"]["unsent"]) == (1, 3, 2)
    assert server.usage().creates_received == 3

    command("plan", "poor")
    assert words.format(0, 2) in (folder / "output.json").read_text()
    _, output, _ = command("plan", "poor", "--json")
    (budget,) = output["sets"]["poor"]["budgets"]
    assert budget == {
        "budget": "usd_per_month",
        "limit_usd": 0.009,
        "used_usd": 0.009,
        "new": 2,
        "fits": 0,
        "needed_usd": 0.015,
    }


def test_two_workers_together_stay_within_the_budget_of_the_day(
    folder: Path, server: EmulatorServer
) -> None:
    """Each in a process and with prompts of its own; the ledger is what they share."""
    environ = {
        "FLUX_PROVIDER": f"{server.origin}/replicate",
        "FLUX_API_KEY": "test-key",
        "FLUX_BUDGET_USD_PER_DAY": "0.021",
        "FLUX_LEDGER": f"sqlite:///{folder}/ledger.db",
        "FLUX_STORE": f"file:{folder}/store",
    }

    def work(name: str) -> int:
        place = folder / name
        (place / "configs").mkdir(parents=True)
        write_dagster_home(place)
        prompts = "".join(f"  p{number}: {name} {number}\n" for number in range(6))
        (place / f"configs/{name}.yaml").write_text(f"{HEAD}prompts:\n{prompts}")
        _, output = run_command(["run", "--json"], folder=place, environ=environ)
        return int(output["total"]["stored"])

    with ThreadPoolExecutor() as pool:
        made = list(pool.map(work, ["first", "second"]))
    assert sum(made) == server.usage().creates_received == 7


UNPRICED = """
model: 851-labs/background-remover
prompts: {cut: {image: https://example.com/a.png}}
"""


def test_plan_says_which_prices_are_unknown_in_every_form(command: Command, folder: Path) -> None:
    (folder / "configs/cut.yaml").write_text(UNPRICED)
    said = "price unknown: 1 request of 851-labs/background-remover"

    _, output, _ = command("plan", "--json")
    assert output["total"]["unpriced"] == 1
    assert output["sets"]["cut"]["unpriced"] == 1
    assert output["sets"]["tale"]["unpriced"] == 0
    for form in ((), ("--markdown",)):
        command("plan", *form)
        assert said in (folder / "output.json").read_text()


def test_what_the_provider_does_not_offer_is_said_before_anything_is_sent(
    command: Command, folder: Path, server: EmulatorServer
) -> None:
    (folder / "configs/cut.yaml").write_text(UNPRICED)
    offered = "a/b,lucataco/flux-schnell-lora"

    _, output, _ = command("plan", "--json", FLUX_MODELS=offered)
    assert output["total"]["unoffered"] == output["sets"]["cut"]["unoffered"] == 1
    for form in ((), ("--markdown",)):
        command("plan", *form, FLUX_MODELS=offered)
        said = (folder / "output.json").read_text()
        assert "will not be sent: 1 request: 851-labs/background-remover:" in said
    code, output, _ = command("run", "cut", "--json", FLUX_MODELS=offered)
    assert (code, output["total"]["failed"]) == (1, 1)
    assert server.usage().creates_received == 0


def test_a_days_budget_with_an_unknown_price_starts_nothing(
    command: Command, folder: Path, server: EmulatorServer
) -> None:
    (folder / "configs/cut.yaml").write_text(UNPRICED)
    for verb in ("plan", "run"):
        code, _, errors = command(verb, "cut", "--json", FLUX_BUDGET_USD_PER_DAY="5")
        assert code == 2
        assert "FLUX_BUDGET_USD_PER_DAY: can't be kept: the price of 851-labs/backgr" in errors
    assert server.usage().creates_received == 0
    code, _, _ = command("plan", "tale", "--json", FLUX_BUDGET_USD_PER_DAY="5")
    assert code == 0
