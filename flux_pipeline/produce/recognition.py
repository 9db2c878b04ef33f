"""Whose prediction is this? What the provider shows, compared with a request of the ledger."""

from collections.abc import Mapping

from flux_pipeline.ledger.base import Attempt
from flux_pipeline.ledger.codec import load_request
from flux_pipeline.models import find_model
from flux_pipeline.prediction import Prediction
from flux_pipeline.provider.matching import Match, matches
from flux_pipeline.request import JsonValue, Request


def match_of(prediction: Prediction, attempt: Attempt) -> Match:
    """How a prediction relates to the attempt's request.

    Stricter than settling, which knows that something of this request was sent: what the prediction
    has beyond the request must be the model's own defaults.

    Raises:
        LedgerError: Where the request can't be read in the ledger.
    """
    request = load_request(attempt.intent.request_json)
    shown = {"model": prediction.model, "version": prediction.version, "input": prediction.input}
    match = matches(shown, request)
    if match in {Match.OURS, Match.OTHER_VERSION} and _asks_for_more(prediction.input, request):
        return Match.NO
    return match


def _asks_for_more(shown: Mapping[str, JsonValue], request: Request) -> bool:
    """Whether the input sets a field of the model that the request leaves at its default."""
    try:
        known = find_model(request.model).input_type.model_fields
    except KeyError:
        return False
    return any(
        name in known and value is not None and value != known[name].default
        for name, value in shown.items()
        if name not in request.input
    )
