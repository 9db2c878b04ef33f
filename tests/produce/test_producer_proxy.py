"""Runs through a proxy that refuses them: one message, nothing sent, nothing paid."""

import pytest

from flux_pipeline.ledger.base import State
from flux_pipeline.network import Network
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.produce.producer import Producer
from flux_pipeline.produce.report import PartitionReport, Stop
from flux_pipeline.provider.client import Provider
from flux_pipeline.provider.config import ProviderConfig
from flux_pipeline.request import Request
from tests.produce.pipeline import PATIENT, POLICY, Pipeline, make_requests
from tests.servers.connect_proxy import ConnectProxy, connect_proxy

PASSWORD = "canaryKq7"


def run_through(
    proxy: ConnectProxy, pipeline: Pipeline, requests: list[Request], user: str
) -> PartitionReport:
    config = ProviderConfig(
        base_url="https://api.company.test",
        api_key="key-of-the-tests",
        timeouts=PATIENT,
        network=Network(proxy=f"http://{user}{proxy.address}"),
        creates_per_minute=60_000,
    )
    producer = Producer(
        open_provider=lambda: Provider(config),
        store=pipeline.store,
        ledger=pipeline.ledger,
        policy=POLICY,
        concurrency=2,
        spool=pipeline.spool,
    )
    run = RunContext("run-1", "set/images")
    with producer.stream([("p", requests)], run=run) as reports:
        (report,) = reports
    return report


@pytest.mark.parametrize(
    ("behaviour", "user", "words"),
    [
        ({"user": "me:other"}, "", "wants a user and a password (407)"),
        ({"user": "me:other"}, f"me:{PASSWORD}@", "refused the user and password in HTTPS_PROXY"),
        ({"status": 403}, "", "answered 403 to CONNECT; have it allow this host, or add the host"),
    ],
)
def test_a_proxy_that_refuses_stops_the_run_at_once_and_the_next_run_makes_all(
    pipeline: Pipeline, behaviour: dict[str, object], user: str, words: str
) -> None:
    proxy, requests = ConnectProxy(**behaviour), make_requests(30)  # type: ignore[arg-type]
    with connect_proxy(proxy):
        report = run_through(proxy, pipeline, requests, user)

    assert (report.tally.failed, report.tally.created) == (30, 0)
    assert {result.stop for result in report.results} == {Stop.PROXY}
    assert len(proxy.heads) <= 2  # those that were under way with the first
    assert proxy.tunnelled == 0
    assert all(words in result.reason for result in report.results)
    assert not [result for result in report.results if PASSWORD in result.reason]
    ledger = pipeline.ledger.find([each.request_sha256 for each in requests])
    assert {each.state for each in ledger.values()} <= {State.UNSENT}

    assert pipeline.run(requests).stored == 30
    assert pipeline.created == 30
