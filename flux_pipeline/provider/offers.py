"""What a provider offers: by which route a model is asked for, and which models it has at all.

A model that it doesn't offer is found here, before anything is sent: in the plan, at a run's start,
and once more by the client.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import quote

from flux_pipeline.request import OFFICIAL, JsonValue, Request

Route: TypeAlias = Literal["predictions", "models"]
"""How an official model is asked for: as the ``version`` of ``POST /v1/predictions``, or by
``POST /v1/models/{owner}/{name}/predictions``. Any other version goes by the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a provider is known to offer, beyond creating and polling predictions."""

    base_url: str = ""
    has_list: bool | None = None
    """Whether its predictions can be listed, as ``ProviderConfig.has_list``."""
    has_files: bool | None = None
    """Whether it takes files, as ``ProviderConfig.has_files``."""
    route: Route = "models"
    """How it is asked for official models."""


OFFERS: Mapping[str, Offer] = {
    "emulator": Offer(has_list=True, has_files=True, route="predictions"),
    "replicate": Offer(
        base_url="https://api.replicate.com", has_list=True, has_files=True, route="predictions"
    ),
    # An aggregator: no list is documented, and uploads go to a host of its own in another form.
    "anyapi": Offer(base_url="https://www.anyapi.vip/replicate", has_files=False),
}
"""By the names of ``settings.PROVIDERS``."""


def known_offer(provider: str) -> Offer:
    """What a provider offers, by its name or its base URL; of an unknown one nothing is certain.

    The route of an unknown provider is ``models``: aggregators have official models by that one
    alone, and those with both take it too.
    """
    by_url = {offer.base_url: offer for offer in OFFERS.values() if offer.base_url}
    return OFFERS.get(provider) or by_url.get(provider.rstrip("/")) or Offer(base_url=provider)


def create_call(
    route: Route, request: Request, sent_input: Mapping[str, JsonValue]
) -> tuple[str, bytes]:
    """The path below the base URL, and the body, of the POST that creates a prediction."""
    if request.is_official and route == "models":
        path = f"/v1/models/{quote(request.model)}/predictions"
        return path, json.dumps({"input": dict(sent_input)}, allow_nan=False).encode()
    body = {"version": request.served_as, "input": dict(sent_input)}
    return "/v1/predictions", json.dumps(body, allow_nan=False).encode()


def find_unoffered(request: Request, models: Collection[str]) -> str | None:
    """Why the provider does not offer this request's model; None where it does.

    ``models`` is its white list, as in ``ProviderConfig.models``; an empty one offers all.
    """
    if not models:
        return None
    names = {request.model, request.served_as, request.version} - {OFFICIAL}
    if not names.isdisjoint(models):
        return None
    return (
        f"{request.served_as} is not among the models that this provider offers:"
        " add it to FLUX_MODELS, if it does, or take another model"
    )
