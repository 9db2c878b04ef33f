"""The ``ImageBooks`` component: what all prompt sets of another project share, once a project.

type: flux_pipeline.ImageBooks
"""

import os
from collections.abc import Iterable
from typing import Literal, Self

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field

from flux_pipeline.defs.build import build_shared
from flux_pipeline.defs.component import PromptSet
from flux_pipeline.defs.scaffold import ImageBooksScaffolder
from flux_pipeline.errors import ConfigError, Problem
from flux_pipeline.prompts import PromptSet as LoadedPromptSet
from flux_pipeline.resources import AlertSender, ImageProducer
from flux_pipeline.settings import Settings


class ImageBooksAttributes(BaseModel):
    """Where the resource comes from; all else is found."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_producer: Literal["environment", "project"] = Field(
        default="environment",
        description="Where the resource image_producer comes from: environment, the FLUX_*"
        " variables; or project, where the project's own definitions have it.",
    )


@dg.scaffold_with(ImageBooksScaffolder)
class ImageBooks(dg.Component):
    """What all prompt sets share: lineage and spend, a gallery of all, the rescue, and alerts."""

    def __init__(self, attributes: ImageBooksAttributes | None = None) -> None:
        self.attributes = attributes or ImageBooksAttributes()

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Give the attributes' form."""
        return ImageBooksAttributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """Take the attributes; none is needed."""
        del context
        return cls(attributes if isinstance(attributes, ImageBooksAttributes) else None)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Build it over every ``PromptSet`` component of the project.

        Raises:
            ConfigError: The project has these books or the name of a prompt set twice, or a FLUX_*
                variable is wrong.
        """
        tree = context.component_tree
        if len(tree.get_all_components(ImageBooks)) > 1:
            message = "a project has one ImageBooks, over all its prompt sets: remove the others"
            raise ConfigError([Problem(str(context.path), 0, "", message)])
        prompt_sets = [component.prompt_set for component in tree.get_all_components(PromptSet)]
        _refuse_twins(prompt_sets)
        settings = Settings.from_environment(os.environ)
        brings = self.attributes.image_producer == "environment"
        return build_shared(
            prompt_sets,
            ImageProducer.from_settings(settings) if brings else None,
            AlertSender.from_settings(settings),
        )


def _refuse_twins(prompt_sets: Iterable[LoadedPromptSet]) -> None:
    """Name the files of two sets with one name: Dagster would name the assets alone."""
    places: dict[str, str] = {}
    problems = []
    for each in prompt_sets:
        if each.name in places:
            message = f"is named {each.name}, and so is one in {places[each.name]}: give it a name"
            problems.append(Problem(each.path, 0, "name", message))
        places.setdefault(each.name, each.path)
    if problems:
        raise ConfigError(problems)
