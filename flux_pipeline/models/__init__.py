"""The models that can be asked: typed input, limits, sizes, price and pinned version of each."""

from flux_pipeline.models.build import build_request, effective_input
from flux_pipeline.models.catalog import MODELS, find_model
from flux_pipeline.models.model import Model, ModelInput

__all__ = [
    "MODELS",
    "Model",
    "ModelInput",
    "build_request",
    "effective_input",
    "find_model",
]
