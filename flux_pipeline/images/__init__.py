"""Reads, decodes, labels and signs image files: functions of bytes that touch nothing else."""

from typing import TYPE_CHECKING

from flux_pipeline.lazy_names import lazy_names

if TYPE_CHECKING:
    from flux_pipeline.images.c2pa import Manifest, inspect_manifest, read_manifest
    from flux_pipeline.images.formats import image_sha256
    from flux_pipeline.images.labels import Label, read_label
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Label": "flux_pipeline.images.labels",
            "Manifest": "flux_pipeline.images.c2pa",
            "image_sha256": "flux_pipeline.images.formats",
            "inspect_manifest": "flux_pipeline.images.c2pa",
            "read_label": "flux_pipeline.images.labels",
            "read_manifest": "flux_pipeline.images.c2pa",
        },
    )

__all__ = ["Label", "Manifest", "image_sha256", "inspect_manifest", "read_label", "read_manifest"]
