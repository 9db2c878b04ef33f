"""The IO manager of ``<set>/images``: an asset downstream gets the images as ``Images``.

    @dg.asset(ins={"images": dg.AssetIn(key=["winter", "images"])})
    def album(images: Images) -> None: ...

It reads through ledger and store of the resource ``image_producer``, and so also what a run that is
still going on has stored. It writes nothing: the step of a set stores its images itself.
"""

from typing import TYPE_CHECKING, Any

import dagster as dg

from flux_pipeline.defs.keys import SetKeys
from flux_pipeline.errors import FluxPipelineError
from flux_pipeline.prompts import PromptSet
from flux_pipeline.text import first_of

if TYPE_CHECKING:
    from flux_pipeline.image_reader import Images

_MOST_NAMED = 20


class ImagesIOManager(dg.IOManager):
    """Loads the images of the partitions that an asset depends on."""

    def __init__(self, prompt_set: PromptSet) -> None:
        self._prompt_set = prompt_set

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Write nothing."""

    def load_input(self, context: dg.InputContext) -> "Images":
        """Load the images of the run's partitions, those that are there and the others by name.

        Raises:
            dagster.Failure: No partition is there, or ledger or store can't be read.
        """
        from flux_pipeline.image_reader import current_images

        asset = SetKeys(self._prompt_set.name).images.to_user_string()
        asked = list(context.asset_partition_keys) if context.has_asset_partitions else None
        producer = context.resources.image_producer
        try:
            images = current_images(
                self._prompt_set, asked, producer.open_store(), str(producer.ledger)
            )
            missing = images.missing
        except FluxPipelineError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        if not images.partitions:
            named = first_of(missing, _MOST_NAMED) or "it has no partition"
            raise dg.Failure(
                description=f"{asset}: nothing is there of {named}: materialize it first",
                allow_retries=False,
            )
        if missing:
            named = first_of(missing, _MOST_NAMED)
            context.log.warning("%s: not there: %s", asset, named)
        return images


def build_io_manager(prompt_set: PromptSet) -> dg.IOManagerDefinition:
    """Build the IO manager of one prompt set."""

    @dg.io_manager(
        required_resource_keys={"image_producer"},
        description=f"Gives the images of {prompt_set.name} to assets downstream.",
    )
    def images_io_manager(_context: dg.InitResourceContext) -> ImagesIOManager:
        return ImagesIOManager(prompt_set)

    return images_io_manager
