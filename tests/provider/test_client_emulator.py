"""The client against the emulated API over a socket; the emulator's own ledger is the oracle."""

import asyncio
import time
from itertools import count
from typing import get_args

import pytest

from flux_pipeline.emulator.faults import CallFault, CreateFault, DownloadFault, FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.errors import DownloadError
from flux_pipeline.outcomes import (
    Absent,
    Accepted,
    AccessDenied,
    Ambiguous,
    Found,
    Gone,
    NoList,
    Polled,
    PollFailed,
    Rejected,
    Throttled,
)
from flux_pipeline.prediction import Output, Prediction, Status
from flux_pipeline.provider.client import Provider
from flux_pipeline.request import Request
from tests.emulator.api import ManualClock
from tests.provider.samples import PATIENCE, Configured, make_request, patience
from tests.provider.scripted_server import time_stands_still_until

pytestmark = pytest.mark.anyio

AT_ONCE = EmulatorOptions(time_scale=0, render="cheap")


async def accepted(provider: Provider, request: Request) -> Prediction:
    outcome = await provider.create(request)
    assert isinstance(outcome, Accepted), outcome
    return outcome.prediction


async def finished(provider: Provider, prediction: Prediction) -> Prediction:
    assert prediction.id is not None
    while True:
        outcome = await provider.poll(prediction.id)
        assert isinstance(outcome, Polled), outcome
        if outcome.prediction.status.is_final:
            return outcome.prediction
        await asyncio.sleep(0.02)


async def test_a_request_becomes_images(configured: Configured) -> None:
    with EmulatorServer(AT_ONCE) as server:
        async with Provider(configured(server.origin + "/replicate")) as provider:
            request = make_request(num_outputs=3)
            prediction = await finished(provider, await accepted(provider, request))
            bodies = [await provider.download(each) for each in prediction.outputs]
            ledger = server.usage()
    assert [each.index for each in prediction.outputs] == [0, 1, 2]
    assert all(body[:4] == b"RIFF" for body in bodies)
    assert len(set(bodies)) == 3
    assert ledger.creates_accepted == ledger.distinct_inputs == 1
    assert "GET /output/{id}" not in ledger.keys_by_route


@pytest.mark.parametrize("shape", ["data_url", "data_b64"])
async def test_the_shape_without_an_id_is_downloaded_at_once(
    configured: Configured, shape: str
) -> None:
    options = AT_ONCE.model_copy(update={"reply_shape": shape})
    with EmulatorServer(options) as server:
        async with Provider(configured(server.origin)) as provider:
            prediction = await accepted(provider, make_request(num_outputs=2))
            bodies = [await provider.download(each) for each in prediction.outputs]
    assert prediction.id is None
    assert prediction.status is Status.SUCCEEDED
    assert [body[:4] for body in bodies] == [b"RIFF", b"RIFF"]


async def test_four_large_inline_images_fit_into_a_reply(configured: Configured) -> None:
    options = EmulatorOptions(time_scale=0, reply_shape="data_b64")
    with EmulatorServer(options) as server:
        async with Provider(configured(server.origin)) as provider:
            request = make_request(num_outputs=4, output_format="png")
            prediction = await accepted(provider, request)
            body = await provider.download(prediction.outputs[3])
    assert body[:4] == b"\x89PNG"


@pytest.mark.parametrize("fault", get_args(CreateFault))
async def test_no_fault_makes_a_charged_create_look_unpaid(
    configured: Configured, fault: CreateFault
) -> None:
    plan = FaultPlan(create={fault: 1.0}, cap=1)
    with EmulatorServer(AT_ONCE, plan) as server:
        limits = patience(create=0.2) if fault.startswith("hang") else patience()
        async with Provider(configured(server.origin, timeouts=limits)) as provider:
            with time_stands_still_until(lambda: server.usage().faults):
                outcome = await provider.create(make_request(), permitted=True)
            charged = server.usage().creates_accepted
            found = await provider.find(make_request(), since=time.time())
    if charged:
        assert isinstance(outcome, (Accepted, Ambiguous)), outcome
        assert isinstance(found, Found)
    else:
        expected = (Rejected, Throttled, AccessDenied, Ambiguous)
        assert isinstance(outcome, expected), outcome
        assert found == Absent()
    assert server.origin not in repr(outcome)


@pytest.mark.parametrize("fault", get_args(CallFault))
async def test_no_fault_of_a_poll_ends_a_prediction(
    configured: Configured, fault: CallFault
) -> None:
    plan = FaultPlan(poll={fault: 1.0}, cap=1)
    with EmulatorServer(AT_ONCE, plan) as server:
        limits = patience(call=0.2) if fault == "hang" else patience()
        config = configured(server.origin)
        hasty = configured(server.origin, timeouts=limits)
        async with Provider(config) as provider, Provider(hasty) as first_poller:
            prediction = await accepted(provider, make_request())
            assert prediction.id is not None
            with time_stands_still_until(lambda: server.usage().faults):
                first = await first_poller.poll(prediction.id)
            if not fault.startswith("throttled"):  # then it would wait for what the hint says
                second = await provider.poll(prediction.id)
                assert isinstance(second, Polled)
                assert second.prediction.status is Status.SUCCEEDED
    expected = {"not_found": Gone, "unauthorized": AccessDenied, "payment_required": AccessDenied}
    assert isinstance(first, (expected.get(fault, PollFailed), Polled)), first


ENDS = {"hang": 0.15, "slow": 0.3}  # s; a download that ends sooner may be tried again as well


@pytest.mark.parametrize(
    ("fault", "retryable", "gone"),
    [
        ("reset", True, False),
        ("hang", True, False),
        ("slow", True, False),
        ("server_error", True, False),
        ("cut_with_length", True, False),
        ("cut_chunked", True, False),
        ("empty", True, False),
        ("html", True, False),
        ("not_found", False, True),
        ("forbidden", False, True),
        ("gzip_bomb", False, False),
        ("endless", False, False),
        ("redirect_private", False, False),
        ("redirect_other_host", False, False),
    ],
)
async def test_faults_of_a_download_say_what_may_help(
    configured: Configured, fault: DownloadFault, *, retryable: bool, gone: bool
) -> None:
    plan = FaultPlan(download={fault: 1.0}, cap=2, slow_bytes_per_second=2000)
    with EmulatorServer(AT_ONCE, plan) as server:
        config = configured(
            server.origin,
            timeouts=patience(download=ENDS.get(fault, PATIENCE)),
            max_download_bytes=2_000_000,
        )
        async with Provider(config) as provider:
            prediction = await finished(provider, await accepted(provider, make_request()))
            with pytest.raises(DownloadError) as refused:
                await provider.download(prediction.outputs[0])
    assert (refused.value.retryable, refused.value.gone) == (retryable, gone)


async def test_refused_images_keep_the_numbers_of_the_others(configured: Configured) -> None:
    plan = FaultPlan(outcome={"images_refused": 1.0})
    with EmulatorServer(AT_ONCE, plan) as server:
        async with Provider(configured(server.origin)) as provider:
            request = make_request(num_outputs=4)
            prediction = await finished(provider, await accepted(provider, request))
    numbers = [each.index for each in prediction.outputs]
    assert 0 < len(numbers) < 4
    assert all(
        f"/out-{number}." in each.url
        for number, each in zip(numbers, prediction.outputs, strict=True)
    )


@pytest.mark.parametrize("when_finished", ["unchanged", "refused"])
async def test_cancelling_says_how_it_stands(configured: Configured, when_finished: str) -> None:
    options = EmulatorOptions.model_validate({"cancel_finished": when_finished, "render": "cheap"})
    clock = ManualClock()
    with EmulatorServer(options, clock=clock) as server:
        async with Provider(configured(server.origin)) as provider:
            ending = await accepted(provider, make_request(seed=1))
            clock.advance(60)
            ended = await finished(provider, ending)
            running = await accepted(provider, make_request(seed=2))
            assert ended.id is not None
            assert running.id is not None
            cancelled = await provider.cancel(running.id)
            outcome = await provider.cancel(ended.id)
    assert isinstance(cancelled, Polled)
    assert cancelled.prediction.status in (Status.CANCELED, Status.ABORTED)
    assert isinstance(outcome, Polled)
    assert outcome.prediction.status is Status.SUCCEEDED


async def test_a_hint_of_a_real_limit_is_obeyed(configured: Configured) -> None:
    options = AT_ONCE.model_copy(
        update={"creates_per_minute": 60.0, "burst_seconds": 1.0, "rate_hint": "detail"}
    )
    with EmulatorServer(options) as server:
        async with Provider(configured(server.origin)) as provider:
            assert isinstance(await provider.create(make_request(seed=0)), Accepted)
            for seed in count(1):  # a machine that is slow enough meets no limit for a while
                begun = time.monotonic()
                refused = await provider.create(make_request(seed=seed))
                if isinstance(refused, Throttled):
                    break
            after = await provider.create(make_request(seed=seed + 1))
            waited = time.monotonic() - begun
    assert 0 < refused.retry_after < 10
    assert waited >= refused.retry_after
    assert isinstance(after, (Accepted, Throttled))


async def test_an_aggregator_without_a_list_proves_nothing(configured: Configured) -> None:
    options = AT_ONCE.model_copy(update={"list_enabled": False})
    with EmulatorServer(options) as server:
        async with Provider(configured(server.origin + "/replicate")) as provider:
            assert await provider.find(make_request(), since=time.time()) == NoList()


async def test_a_lost_create_is_found_among_many(configured: Configured) -> None:
    plan = FaultPlan(create={"reset_after": 1.0}, cap=1, only_prompts="lost")
    options = AT_ONCE.model_copy(update={"page_size": 7})
    with EmulatorServer(options, plan) as server:
        async with Provider(configured(server.origin)) as provider:
            since = time.time()
            lost = make_request(seed=1, prompt="a lost castle")
            assert isinstance(await provider.create(lost), Ambiguous)
            for seed in range(2, 40):
                await accepted(provider, make_request(seed=seed))
            found = await provider.find(lost, since=since)
            never = await provider.find(make_request(seed=99), since=since)
            ids = {each.id for each in server.usage().predictions}
    assert isinstance(found, Found)
    assert found.prediction.id in ids
    assert found.prediction.input["seed"] == 1
    assert never == Absent()


async def test_outputs_that_have_vanished_are_gone(configured: Configured) -> None:
    with EmulatorServer(AT_ONCE) as server:
        async with Provider(configured(server.origin)) as provider:
            with pytest.raises(DownloadError) as refused:
                await provider.download(Output(0, f"{server.origin}/output/none/out-0.webp"))
    assert refused.value.gone


@pytest.mark.parametrize("status", [400, 404, 405, 413, 415])
async def test_a_create_that_is_rejected_for_a_while_is_unpaid_and_gets_through_later(
    configured: Configured, status: int
) -> None:
    plan = FaultPlan.model_validate({"lasting": {f"creates_{status}": 20}})
    clock = ManualClock()
    with EmulatorServer(AT_ONCE, plan, clock=clock) as server:
        async with Provider(configured(server.origin)) as provider:
            rejected = [await provider.create(make_request()) for _ in range(3)]
            assert server.usage().creates_accepted == 0
            clock.advance(20)
            await accepted(provider, make_request())
    assert {type(each) for each in rejected} == {Rejected}
    assert {each.code for each in rejected if isinstance(each, Rejected)} == {status}


async def test_what_is_refused_for_a_while_is_not_gone_for_good(configured: Configured) -> None:
    plan = FaultPlan(lasting={"polls_404": 5, "downloads_404": 9})
    clock = ManualClock()
    with EmulatorServer(AT_ONCE, plan, clock=clock) as server:
        async with Provider(configured(server.origin)) as provider:
            made = await accepted(provider, make_request())
            assert made.id is not None
            assert isinstance(await provider.poll(made.id), Gone)
            clock.advance(5)
            ended = await finished(provider, made)
            with pytest.raises(DownloadError, match="answered 404") as refused:
                await provider.download(ended.outputs[0])
            assert refused.value.gone
            clock.advance(4)
            assert (await provider.download(ended.outputs[0]))[:4] == b"RIFF"


async def test_outputs_on_another_host_say_which_host_to_allow(configured: Configured) -> None:
    plan = FaultPlan(lasting={"outputs_elsewhere": 60})
    with EmulatorServer(AT_ONCE, plan) as server:
        async with Provider(configured(server.origin)) as provider:
            ended = await finished(provider, await accepted(provider, make_request()))
            with pytest.raises(DownloadError) as refused:
                await provider.download(ended.outputs[0])
    assert str(refused.value).endswith(
        "set FLUX_OUTPUT_HOSTS=replicate.delivery,*.replicate.delivery,outputs.invalid"
    )
