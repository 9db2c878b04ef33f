"""Declarative image production on Dagster: every image paid once, kept, and traceable."""

from typing import Any

_FOR_DAGSTER = {
    "AlertSender": "flux_pipeline.resources",
    "ImageBooks": "flux_pipeline.defs.components",
    "ImageProducer": "flux_pipeline.resources",
    "PromptSet": "flux_pipeline.defs.components",
}


def __getattr__(name: str) -> Any:
    """Import what Dagster projects use when it is asked for: the rest needs no Dagster."""
    if name not in _FOR_DAGSTER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415  as lazy as the rest of this function

    return getattr(import_module(_FOR_DAGSTER[name]), name)


def __dir__() -> list[str]:
    """List them too: this is how ``dg list components`` finds the component."""
    return sorted([*globals(), *_FOR_DAGSTER])
