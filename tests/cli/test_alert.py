"""Alerts from the command line: a sample, and those that a run sends without any daemon."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flux_pipeline.emulator.server import EmulatorServer
from tests.cli.conftest import Command
from tests.servers.webhook import Receiver, receiver


@pytest.fixture
def webhook() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


def test_a_sample_is_sent_to_every_webhook(
    command: Command, folder: Path, webhook: Receiver
) -> None:
    urls = f"{webhook.origin}/a-canary,{webhook.origin}/b-canary"
    code, _, errors = command("alert", "--test", FLUX_ALERT_URL=urls, FLUX_ALERT_FORMAT="slack")
    printed = (folder / "output.json").read_text()
    assert (code, errors.count("\n")) == (0, 1)
    assert printed == "slack webhook at 127.0.0.1: delivered\n" * 2
    assert [each.path for each in webhook.received] == ["/a-canary", "/b-canary"]
    assert "<http://127.0.0.1:3000|web interface>" in webhook.bodies[0]["text"]


def test_a_sample_that_is_refused_gives_exit_code_1(
    command: Command, folder: Path, webhook: Receiver
) -> None:
    webhook.answers = [(200, '{"errcode":310000,"errmsg":"sign not match"}')]
    environ = {
        "FLUX_ALERT_URL": f"{webhook.origin}/send?access_token=canary",
        "FLUX_ALERT_FORMAT": "dingtalk",
        "FLUX_ALERT_SECRET": "SECcanary",
    }
    code, _, errors = command("alert", "--test", **environ)
    printed = (folder / "output.json").read_text()
    assert code == 1
    assert "dingtalk webhook at 127.0.0.1: it answered 310000: sign not match" in printed
    assert "canary" not in printed + errors
    assert "&timestamp=" in webhook.received[0].path
    assert "&sign=" in webhook.received[0].path


def test_without_a_webhook_or_with_a_wrong_one_nothing_is_sent(command: Command) -> None:
    code, _, errors = command("alert", "--test")
    assert (code, "FLUX_ALERT_URL" in errors) == (2, True)
    code, _, errors = command("alert", FLUX_ALERT_URL="http://example.com/canary")
    assert (code, "use https" in errors, "canary" in errors) == (2, True, False)


def test_a_run_that_fails_gives_one_alert_and_no_address_is_shown(
    command: Command, folder: Path, server: EmulatorServer, webhook: Receiver
) -> None:
    (folder / "configs/poor.yaml").write_text(
        "model: lucataco/flux-schnell-lora\nbudget: {usd_per_run: 0.003}\n"
        "defaults: {output_format: jpg}\nprompts: {a: one, b: two, c: three}\n"
    )
    environ = {
        "FLUX_ALERT_URL": f"{webhook.origin}/canary",
        "FLUX_UI_URL": "https://dagster.example/",
    }
    code, _, errors = command("--log-level", "DEBUG", "run", "poor", **environ)
    printed = (folder / "output.json").read_text()
    assert code == 1
    (body,) = webhook.bodies
    assert (body["kind"], body["prompt_set"]) == ("budget_reached", "poor")
    assert body["links"]["run"] == f"https://dagster.example/runs/{body['run_id']}"
    assert server.usage().creates_accepted == 1
    # Said once: with its count in the summary, and not for each request or partition.
    assert (printed + errors).count("budget usd_per_run 0.003") == 1
    assert "2 x not sent: budget usd_per_run 0.003 has 0 USD left" in printed
    assert "poor: 2 of 3 partitions failed\n" in errors
    assert "canary" not in printed + errors
    databases = [path for path in (folder / "data").rglob("*") if path.is_file()]
    assert len(databases) > 3
    assert [path for path in databases if b"canary" in path.read_bytes()] == []


def test_a_webhook_that_is_away_changes_no_exit_code(
    command: Command, folder: Path, webhook: Receiver
) -> None:
    webhook.answers = [(404, "")]
    (folder / "configs/poor.yaml").write_text(
        "model: lucataco/flux-schnell-lora\nbudget: {usd_per_run: 0}\nprompts: {a: one}\n"
    )
    code, output, errors = command("run", "poor", "--json", FLUX_ALERT_URL=webhook.origin)
    assert (code, output["total"]["created"]) == (1, 0)
    assert "not delivered to the json webhook at 127.0.0.1: it answered 404" in errors
