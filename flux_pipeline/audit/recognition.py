"""Whose prediction is this? What the provider shows, compared with a request of the ledger."""

from flux_pipeline.ledger.base import Attempt
from flux_pipeline.ledger.codec import load_request
from flux_pipeline.prediction import Prediction
from flux_pipeline.provider.listing import Match, matches


def match_of(prediction: Prediction, attempt: Attempt) -> Match:
    """How a prediction relates to the attempt's request.

    Raises:
        LedgerError: Where the request can't be read in the ledger.
    """
    shown = {"model": prediction.model, "version": prediction.version, "input": prediction.input}
    return matches(shown, load_request(attempt.intent.request_json))
