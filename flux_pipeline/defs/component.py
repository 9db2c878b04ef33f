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
from flux_pipeline.defs.reading import read_attributes, source_files
from flux_pipeline.defs.scaffold import PromptSetScaffolder
from flux_pipeline.defs.watching import Stamps, stamp_files
from flux_pipeline.prompts import PromptSet as LoadedPromptSet
from flux_pipeline.prompts import build_prompt_set, load_prompt_set


@dg.scaffold_with(PromptSetScaffolder)
class PromptSet(dg.Component):
    """Images of a list of prompts: made once, kept with their lineage, shown in a gallery."""

    def __init__(self, prompt_set: LoadedPromptSet, files: Stamps | None = None) -> None:
        self.prompt_set = prompt_set
        self.files = files or {}
        """What it was read from, besides tables, and how that was before."""

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
        files = stamp_files(source_files(context))
        given = read_attributes(attributes, context)
        if given.path is None:
            return cls(build_prompt_set(given.name, given.document, folder=given.folder), files)
        path = given.folder / given.path
        return cls(load_prompt_set(path), {**files, **stamp_files([path])})

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Build assets, checks, job and schedule."""
        del context
        return build_set(self.prompt_set)
