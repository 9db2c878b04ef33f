"""The models: typed input, limits, sizes, price and pinned version of each."""

from flux_pipeline.models.base import Model, ModelInput
from flux_pipeline.models.catalog import MODELS, build_request, effective_input, find_model

__all__ = [
    "MODELS",
    "Model",
    "ModelInput",
    "build_request",
    "effective_input",
    "find_model",
]
