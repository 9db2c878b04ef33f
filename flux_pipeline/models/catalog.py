"""The catalog of models, and the requests that are built for them.

A new model is a module beside this one, a line in ``MODELS``, and a test.
"""

import difflib
from collections.abc import Mapping

from pydantic import ValidationError

from flux_pipeline.models import flux_schnell_lora
from flux_pipeline.models.base import Model, ModelInput
from flux_pipeline.request import JsonValue, Request, Source, fingerprint

MODELS: tuple[Model, ...] = (flux_schnell_lora.MODEL,)


def find_model(name: str) -> Model:
    """The model called ``owner/name``, exactly.

    Raises:
        KeyError: No such model; the message names the nearest and all that there are.
    """
    for model in MODELS:
        if model.name == name:
            return model
    names = [model.name for model in MODELS]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
    raise KeyError(f"no model of that name; {hint}")


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


def effective_input(request: Request) -> Mapping[str, JsonValue]:
    """The input that decided the image, with the model's defaults filled in, for records.

    A request of a model that is no longer known comes back as it was sent.
    """
    try:
        return find_model(request.model).input_type.model_validate(request.input).effective()
    except (KeyError, ValidationError):
        return request.input
