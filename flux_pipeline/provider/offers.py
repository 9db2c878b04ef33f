"""What a provider offers: by which route a model is asked for, and which models it has at all.

A model that it doesn't offer is found here, before anything is sent: in the plan, at a run's start,
and once more by the client.
"""

import json
import re
from collections.abc import Collection, Mapping

from flux_pipeline.provider.config import ProviderConfig
from flux_pipeline.request import OFFICIAL, JsonValue, Request


def create_call(
    config: ProviderConfig, request: Request, sent_input: Mapping[str, JsonValue]
) -> tuple[str, bytes]:
    """The URL and the body of the POST that creates a prediction of this request."""
    if request.is_official and config.route == "models":
        url = f"{config.model_url(request.model)}/predictions"
        return url, json.dumps({"input": dict(sent_input)}, allow_nan=False).encode()
    body = {"version": request.served_as, "input": dict(sent_input)}
    return config.predictions_url, json.dumps(body, allow_nan=False).encode()


def find_unoffered(request: Request, models: Collection[str]) -> str | None:
    """Why the provider does not offer this request's model; None where it does.

    ``models`` is its white list, as in ``ProviderConfig.models``; an empty one offers all.
    """
    names = {request.model, request.served_as, request.version} - {OFFICIAL}
    if not models or names & set(models):
        return None
    return (
        f"{request.served_as} is not among the {len(models)} models that this provider offers:"
        " add it to FLUX_MODELS, if it does, or take another model"
    )


def is_model_name(text: str) -> bool:
    """Whether the text can be ``owner/name``."""
    return _NAME.fullmatch(text) is not None


def is_offered_name(text: str) -> bool:
    """Whether the text can stand in the list of models that a provider offers."""
    return _ENTRY.fullmatch(text) is not None


_PART = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_NAME = re.compile(f"{_PART}/{_PART}")
_ENTRY = re.compile(f"{_PART}/{_PART}(:[0-9a-f]{{64}})?|[0-9a-f]{{64}}")
