"""The ledger's copy of a reply: what another worker needs to finish a prediction.

Output URLs are kept only for the reply shape without an id (``data[]``): there the reply is the
one place where they ever were. Everywhere else the id is enough, and the URLs may hold signatures.
"""

import json

from flux_pipeline.prediction import Output, Prediction, Status


def dump_reply(prediction: Prediction) -> str:
    """One line of JSON."""
    reply: dict[str, object] = {"status": prediction.status, "reply": prediction.raw}
    if prediction.id is None:
        reply["outputs"] = [[output.index, output.url] for output in prediction.outputs]
    return json.dumps(reply, ensure_ascii=False)


def load_prediction(prediction_id: str | None, reply: str) -> Prediction:
    """The prediction as far as it can be resumed: to be polled, or, without an id, downloaded."""
    if prediction_id is not None:
        return Prediction(id=prediction_id, status=Status.UNKNOWN)
    outputs = json.loads(reply)["outputs"] if reply else []
    return Prediction(
        id=None,
        status=Status.SUCCEEDED,
        outputs=tuple(Output(index=index, url=url) for index, url in outputs),
    )
