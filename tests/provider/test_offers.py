"""Which route a model is asked for by, and which models a provider does not offer."""

import json
from dataclasses import replace

import pytest

from flux_pipeline.outcomes import Accepted, NeverSent
from flux_pipeline.provider.client import Provider
from flux_pipeline.provider.offers import OFFERS, Route, create_call, find_unoffered, known_offer
from flux_pipeline.request import OFFICIAL, Request
from flux_pipeline.settings import PROVIDERS
from tests.provider.samples import ID, MODEL, VERSION, Configured, http, make_request
from tests.provider.samples import prediction_fields as fields
from tests.provider.scripted_server import Serve, answering

PINNED = make_request()
OFFICIAL_ONE = replace(PINNED, model="maker/drawer", version=OFFICIAL)


def call(request: Request, route: Route) -> tuple[str, object]:
    path, body = create_call(route, request, {"prompt": "x"})
    return path, json.loads(body)


def test_the_first_route_takes_every_model_as_a_version() -> None:
    pinned = {"version": f"{MODEL}:{VERSION}", "input": {"prompt": "x"}}
    official = {"version": "maker/drawer", "input": {"prompt": "x"}}
    assert call(PINNED, "predictions") == ("/v1/predictions", pinned)
    assert call(OFFICIAL_ONE, "predictions") == ("/v1/predictions", official)


def test_the_second_route_takes_official_models_alone() -> None:
    pinned = {"version": f"{MODEL}:{VERSION}", "input": {"prompt": "x"}}
    assert call(PINNED, "models") == ("/v1/predictions", pinned)
    assert call(OFFICIAL_ONE, "models") == (
        "/v1/models/maker/drawer/predictions",
        {"input": {"prompt": "x"}},
    )


def test_every_named_provider_has_an_offer() -> None:
    assert set(OFFERS) == set(PROVIDERS)


@pytest.mark.parametrize(
    ("provider", "has_list", "has_files", "route"),
    [
        ("emulator", True, True, "predictions"),
        ("replicate", True, True, "predictions"),
        ("https://api.replicate.com/", True, True, "predictions"),
        ("anyapi", None, False, "models"),
        ("https://www.anyapi.vip/replicate", None, False, "models"),
        ("https://other.example/v", None, None, "models"),
    ],
)
def test_what_is_known_of_a_provider(
    provider: str, has_list: bool | None, has_files: bool | None, route: str
) -> None:
    offer = known_offer(provider)
    assert (offer.has_list, offer.has_files, offer.route) == (has_list, has_files, route)


@pytest.mark.parametrize(
    "models",
    [(), (MODEL,), (f"{MODEL}:{VERSION}",), (VERSION,), ("other/model", MODEL)],
)
def test_a_model_is_offered_by_its_name_its_version_or_both(models: tuple[str, ...]) -> None:
    assert find_unoffered(PINNED, models) is None


@pytest.mark.parametrize("models", [("other/model",), (f"{MODEL}:{'0' * 64}",), ("0" * 64,)])
def test_a_model_that_is_not_in_the_list_is_named(models: tuple[str, ...]) -> None:
    message = find_unoffered(PINNED, models)
    assert message is not None
    assert f"{MODEL}:{VERSION} is not among the models" in message
    assert "FLUX_MODELS" in message


def test_an_official_model_is_offered_by_its_name_alone() -> None:
    assert find_unoffered(OFFICIAL_ONE, ["maker/drawer"]) is None
    assert find_unoffered(OFFICIAL_ONE, ["maker/other"]) is not None
    assert find_unoffered(OFFICIAL_ONE, [f"maker/drawer:{VERSION}"]) is not None


@pytest.mark.anyio
async def test_what_is_not_offered_is_never_sent(serve: Serve, configured: Configured) -> None:
    reply = http(fields(), status=201)
    async with (
        serve(answering(reply)) as server,
        Provider(configured(server.origin, models=("maker/drawer",))) as provider,
    ):
        refused = await provider.create(PINNED)
        assert server.requests == []
        accepted = await provider.create(OFFICIAL_ONE)
    assert isinstance(refused, NeverSent)
    assert refused.reason == provider.find_unoffered(PINNED)
    assert isinstance(accepted, Accepted)
    assert accepted.prediction.id == ID
