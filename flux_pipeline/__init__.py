"""Declarative image production on Dagster: every image paid once, kept, and traceable."""

from typing import Any

_FOR_DAGSTER = {
    "AlertSender": "flux_pipeline.resources",
    "ImageProducer": "flux_pipeline.resources",
    "PromptSet": "flux_pipeline.defs.components",
    "SharedAssets": "flux_pipeline.defs.components",
}
_RENAMED = {"ImageBooks": "SharedAssets"}
"""Names until 0.1.0; they go with 0.3.0."""


def __getattr__(name: str) -> Any:
    """Import what Dagster projects use when it is asked for: the rest needs no Dagster."""
    from importlib import import_module  # noqa: PLC0415  as lazy as the rest of this function

    if name in _RENAMED:
        from warnings import warn  # noqa: PLC0415

        new = _RENAMED[name]
        warn(f"flux_pipeline.{name} is flux_pipeline.{new} now", DeprecationWarning, stacklevel=2)
        name = new
    if name not in _FOR_DAGSTER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_FOR_DAGSTER[name]), name)


def __dir__() -> list[str]:
    """List them too: this is how ``dg list components`` finds the component."""
    return sorted([*globals(), *_FOR_DAGSTER])
