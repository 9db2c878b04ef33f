"""The models: typed input, limits, sizes, price and pinned version of each."""

from flux_pipeline.models.base import Model, ModelInput
from flux_pipeline.models.catalog import (
    BUILT_IN,
    Catalog,
    build_request,
    effective_input,
    find_model,
    has_built_in_rules,
    known_defaults,
    measured_usd,
    shared_input,
)
from flux_pipeline.models.request_form import RequestForm

__all__ = [
    "BUILT_IN",
    "Catalog",
    "Model",
    "ModelInput",
    "RequestForm",
    "build_request",
    "effective_input",
    "find_model",
    "has_built_in_rules",
    "known_defaults",
    "measured_usd",
    "shared_input",
]
