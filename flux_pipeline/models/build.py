"""Makes the request of one prediction from a model, its checked input and where it comes from."""

from flux_pipeline.models.model import Model, ModelInput
from flux_pipeline.request import Request, Source, fingerprint


def build_request(
    model: Model, values: ModelInput, source: Source, *, version: str | None = None
) -> Request:
    """The request that sends exactly the fields given to ``values``.

    Its fingerprint covers the effective input: two requests that must give the same image have
    the same one, however they are written. ``version`` (64 hex digits) overrides the pinned one.
    """
    width, height = values.size
    chosen = version or model.version
    return Request(
        model=model.name,
        version=chosen,
        input=values.sent(),
        request_sha256=fingerprint(chosen, values.effective()),
        outputs=values.outputs,
        width=width,
        height=height,
        image_format=values.image_format,
        cost_usd=model.usd_per_image * values.outputs,
        source=source,
    )
