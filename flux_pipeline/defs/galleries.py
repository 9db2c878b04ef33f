"""The asset over all galleries: one page that shows the images of every prompt set."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from flux_pipeline.defs.events import reported_errors
from flux_pipeline.defs.keys import GALLERY, SetKeys
from flux_pipeline.gallery.build import build_overview
from flux_pipeline.resources import ImageProducer

_GROUP = "books"  # with the tables over all prompt sets


def build_gallery_of_all(prompt_sets: Sequence[str]) -> dg.AssetsDefinition:
    """Build ``gallery`` over the galleries of the prompt sets of these names."""

    @dg.asset(
        key=GALLERY,
        deps=[SetKeys(name).gallery for name in prompt_sets],
        group_name=_GROUP,
        kinds={"html"},
    )
    def gallery(image_producer: ImageProducer) -> dg.MaterializeResult[Any]:
        """Every image of every prompt set on one page, from the pages of their own galleries."""
        with reported_errors():
            built = build_overview(image_producer.open_store(), now=datetime.now(UTC))
        return dg.MaterializeResult(
            metadata={
                "flux/page_uri": built.uri,  # the UI's overview leaves dagster/uri out
                "dagster/uri": built.uri,
                "dagster/row_count": built.stored,
                "dagster/size_bytes": built.size,
                "flux/missing_images": built.missing,
                "flux/prompt_sets": built.sets,
            }
        )

    return gallery
