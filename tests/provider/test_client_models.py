"""What a provider says of a model, and the answers that say nothing."""

from typing import Any

import pytest

from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.models.provider_schema import read_contract
from flux_pipeline.outcomes import AccessDenied, ModelFailed, ModelOutcome, NoModel
from flux_pipeline.provider.client import Provider
from flux_pipeline.request import OFFICIAL
from tests.provider.samples import KEY, MODEL, VERSION, Configured, http
from tests.provider.scripted_server import Script, Serve, answering, reset_after_request

pytestmark = pytest.mark.anyio


async def ask(serve: Serve, configured: Configured, script: Script) -> ModelOutcome:
    async with serve(script) as server, Provider(configured(server.origin)) as provider:
        return await provider.get_model(MODEL)


async def test_a_model_and_a_version_of_it_are_asked_for_by_name(
    serve: Serve, configured: Configured
) -> None:
    reply = {"owner": "lucataco", "latest_version": {"id": VERSION, "cost": None}}
    async with (
        serve(answering(http(reply))) as server,
        Provider(configured(server.origin + "/replicate")) as provider,
    ):
        assert await provider.get_model(MODEL) == reply
        await provider.get_model(MODEL, VERSION)
        await provider.get_model(MODEL, OFFICIAL)
        await provider.get_model(MODEL, "../x")
    model = f"GET /replicate/v1/models/{MODEL}"
    assert server.targets == [
        model,
        f"{model}/versions/{VERSION}",
        model,
        f"{model}/versions/..%2Fx",
    ]
    assert all(KEY.encode() in each for each in server.requests)


@pytest.mark.parametrize("name", ["", "a", "a/b/c", "../b", "a/b:1", "a/b?c", "a b/c"])
async def test_what_is_no_name_is_never_asked_for(configured: Configured, name: str) -> None:
    async with Provider(configured("https://api.example")) as provider:
        with pytest.raises(ValueError, match="owner/name"):
            await provider.get_model(name)


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        (answering(http({"detail": "no model"}, status=404)), NoModel, "no model"),
        (answering(http(b"", status=405)), NoModel, "405"),
        (answering(http({"error": {"code": 404, "message": "none"}})), NoModel, "none"),
        (answering(http({"detail": "no credit"}, status=402)), AccessDenied, "no credit"),
        (answering(http({"detail": "no key"}, status=401)), AccessDenied, "no key"),
        (answering(http(b"<html>")), ModelFailed, "no JSON"),
        (answering(http(["x"])), ModelFailed, "no JSON object"),
        (answering(http(b"", status=503)), ModelFailed, "503"),
        (answering(http({"error": "upstream"})), ModelFailed, "upstream"),
        (reset_after_request, ModelFailed, "127.0.0.1"),
    ],
)
async def test_an_answer_without_a_model_says_why(
    serve: Serve, configured: Configured, script: Script, kind: type[Any], words: str
) -> None:
    outcome = await ask(serve, configured, script)
    assert isinstance(outcome, kind), outcome
    assert words in str(outcome)


async def test_a_hint_to_wait_is_passed_on(serve: Serve, configured: Configured) -> None:
    reply = http({"detail": "slow"}, status=429, headers={"Retry-After": "7"})
    outcome = await ask(serve, configured, answering(reply))
    assert isinstance(outcome, ModelFailed)
    assert outcome.retry_after == 7.0


async def test_no_reason_holds_the_key(serve: Serve, configured: Configured) -> None:
    reply = http({"detail": f"{KEY} is refused"}, status=400)
    assert KEY not in str(await ask(serve, configured, answering(reply)))


async def test_the_emulators_models_are_contracts(configured: Configured) -> None:
    name = "black-forest-labs/flux-dev"
    with EmulatorServer(EmulatorOptions(time_scale=0)) as server:
        async with Provider(configured(server.origin)) as provider:
            reply = await provider.get_model(name)
            missing = await provider.get_model("nobody/nothing")
    assert isinstance(reply, dict)
    assert read_contract(reply, name=name, version="").model == name
    assert isinstance(missing, NoModel)
