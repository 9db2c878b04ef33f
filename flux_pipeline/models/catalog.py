"""The models this package knows. A new one is a module beside this one, a line here, and a test."""

import difflib

from flux_pipeline.models import flux_schnell_lora
from flux_pipeline.models.model import Model

MODELS: tuple[Model, ...] = (flux_schnell_lora.MODEL,)


def find_model(name: str) -> Model:
    """The model called ``owner/name``, exactly.

    Raises:
        KeyError: no such model; the message names the nearest and all that there are.
    """
    for model in MODELS:
        if model.name == name:
            return model
    names = [model.name for model in MODELS]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
    raise KeyError(f"no model of that name; {hint}")
