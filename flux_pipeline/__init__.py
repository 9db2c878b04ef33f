"""Declarative image production on Dagster: every image paid once, kept, and traceable."""

from typing import TYPE_CHECKING

from flux_pipeline.faces import lazy_names

if TYPE_CHECKING:
    from flux_pipeline.defs.components import PromptSet, SharedAssets
    from flux_pipeline.resources import AlertSender, ImageProducer
else:  # the rest of the package needs no Dagster
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "AlertSender": "flux_pipeline.resources",
            "ImageProducer": "flux_pipeline.resources",
            "PromptSet": "flux_pipeline.defs.components",
            "SharedAssets": "flux_pipeline.defs.components",
        },
        renamed={"ImageBooks": "SharedAssets"},  # the name until 0.1; it goes with 0.3
    )

__all__ = ["AlertSender", "ImageProducer", "PromptSet", "SharedAssets"]
