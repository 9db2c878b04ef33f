"""The ``PromptSet`` component: a prompt set in another project's ``defs.yaml``.

    type: flux_pipeline.PromptSet
    attributes:
      path: ../../prompts/winter.yaml     # a file as in ``configs/``

or the keys of such a file in place of ``path``, with the same meaning. The project's definitions
need an ``ImageProducer`` as the resource ``image_producer``.
"""

from typing import Self

import dagster as dg
from pydantic import BaseModel

from flux_pipeline.defs.attributes import PromptSetAttributes
from flux_pipeline.defs.build import build_set
from flux_pipeline.defs.reading import read_attributes
from flux_pipeline.defs.scaffold import PromptSetScaffolder
from flux_pipeline.prompts import PromptSet as LoadedPromptSet
from flux_pipeline.prompts import build_prompt_set, load_prompt_set


@dg.scaffold_with(PromptSetScaffolder)
class PromptSet(dg.Component):
    """Images of a list of prompts: made once, kept with their lineage, shown in a gallery."""

    def __init__(self, prompt_set: LoadedPromptSet) -> None:
        self.prompt_set = prompt_set

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Give the attributes' form."""
        return PromptSetAttributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """Load the file, or take the attributes for one.

        Raises:
            ConfigError: With everything that is wrong.
        """
        given = read_attributes(attributes, context)
        if given.path is not None:
            return cls(load_prompt_set(given.folder / given.path))
        return cls(build_prompt_set(given.name, given.document, folder=given.folder))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Build assets, checks, job and schedule."""
        del context
        return build_set(self.prompt_set)
