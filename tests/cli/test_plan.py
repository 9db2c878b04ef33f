from flux_pipeline.emulator.server import EmulatorServer
from tests.cli.conftest import Command

COUNTS = {"requests", "unchanged", "new", "held", "usd", "seconds"}


def test_plan_tells_what_is_new_and_what_it_costs_and_sends_nothing(
    command: Command, server: EmulatorServer
) -> None:
    code, output, _ = command("plan", "--json")

    assert code == 0
    assert set(output["total"]) >= COUNTS
    assert (output["total"]["new"], output["total"]["usd"]) == (3, 0.009)
    assert set(output["sets"]["tale"]["partitions"]) == {"king", "frog"}
    assert server.ledger().creates_received == 0


def test_plan_counts_what_was_made_as_unchanged(command: Command) -> None:
    command("run", "tale", "--json")

    _, output, _ = command("plan", "--json")

    assert output["sets"]["tale"]["unchanged"] == 2
    assert output["total"]["new"] == 1
