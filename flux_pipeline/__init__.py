"""Declarative image production on Dagster: every image paid once, kept, and traceable."""

from typing import TYPE_CHECKING

from flux_pipeline.lazy_names import lazy_names

if TYPE_CHECKING:
    from flux_pipeline.defs.components import PromptSet, SharedAssets
    from flux_pipeline.defs.downstream import images_of
    from flux_pipeline.image_maker import make_images
    from flux_pipeline.image_reader import Image, Images, read_images
    from flux_pipeline.lineage.frame import read_lineage
    from flux_pipeline.resources import AlertSender, ImageProducer
else:  # the rest of the package needs no Dagster
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "AlertSender": "flux_pipeline.resources",
            "Image": "flux_pipeline.image_reader",
            "ImageProducer": "flux_pipeline.resources",
            "Images": "flux_pipeline.image_reader",
            "PromptSet": "flux_pipeline.defs.components",
            "SharedAssets": "flux_pipeline.defs.components",
            "images_of": "flux_pipeline.defs.downstream",
            "make_images": "flux_pipeline.image_maker",
            "read_images": "flux_pipeline.image_reader",
            "read_lineage": "flux_pipeline.lineage.frame",
        },
        renamed={"ImageBooks": "SharedAssets"},  # the name until 0.1; it goes with 0.3
    )

__all__ = [
    "AlertSender",
    "Image",
    "ImageProducer",
    "Images",
    "PromptSet",
    "SharedAssets",
    "images_of",
    "make_images",
    "read_images",
    "read_lineage",
]
