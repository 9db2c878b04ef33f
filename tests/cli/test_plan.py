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
    assert server.usage().creates_received == 0


def test_what_was_made_is_unchanged_and_placeholders_are_refused_for_a_real_provider(
    command: Command, server: EmulatorServer
) -> None:
    command("run", "tale", "--json")

    _, output, _ = command("plan", "--json")

    assert output["sets"]["tale"]["unchanged"] == 2
    assert output["total"]["new"] == 1
    created = server.usage().creates_accepted

    for verb in ("plan", "run"):
        code, _, errors = command(verb, "tale", "--json", FLUX_PROVIDER="replicate")
        assert code == 1
        assert "is for the emulator's placeholders, and the provider is a real one" in errors
        assert "FLUX_STORE and FLUX_LEDGER" in errors
    assert server.usage().creates_accepted == created
