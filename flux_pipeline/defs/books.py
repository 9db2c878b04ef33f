"""The ``ImageBooks`` component: what all prompt sets of another project share, once a project.

type: flux_pipeline.ImageBooks
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal, Self

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field

from flux_pipeline.defs.build import build_shared
from flux_pipeline.defs.changes import build_changes_sensor
from flux_pipeline.defs.component import PromptSet
from flux_pipeline.defs.scaffold import ImageBooksScaffolder
from flux_pipeline.defs.watching import Watched, stamp_files
from flux_pipeline.errors import ConfigError, Problem
from flux_pipeline.prompts import PromptSet as LoadedPromptSet
from flux_pipeline.resources import AlertSender, ImageProducer
from flux_pipeline.settings import Settings

_FILES = ("defs.yaml", "component.yaml")
_OURS = b"flux_pipeline."
"""What stands in a file of components, of which one may be ours."""


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
        watched = _watch(tree)
        settings = Settings.from_environment(os.environ)
        brings = self.attributes.image_producer == "environment"
        shared = build_shared(
            watched.prompt_sets,
            ImageProducer.from_settings(settings) if brings else None,
            AlertSender.from_settings(settings),
        )
        changes = build_changes_sensor(watched, settings.ui_url)
        return dg.Definitions.merge(shared, dg.Definitions(sensors=[changes]))


def _watch(tree: dg.ComponentTree) -> Watched:
    """Remember the files of the project's prompt sets as they were before they were read."""
    find = partial(_component_files, tree.defs_module_path)
    files = dict(stamp_files(find()))
    components = tree.get_all_components(PromptSet)
    for each in components:
        files |= each.files
    return Watched(files, _distinct(components), find, partial(_load_anew, tree))


def _component_files(folder: Path) -> Iterator[Path]:
    """The files of components below a folder that name one of ours, also those that are new."""
    for name in _FILES:
        for path in folder.rglob(name):
            with suppress(OSError):  # it may be gone by now
                if _OURS in path.read_bytes():
                    yield path


def _load_anew(tree: dg.ComponentTree) -> Sequence[LoadedPromptSet]:
    """Load the prompt sets as their files are now; Python modules stay as they were imported.

    Raises:
        ConfigError: With everything that is wrong, also in the words of Dagster.
    """
    try:
        again = dg.ComponentTree.from_module(tree.defs_module, tree.project_root)
        return _distinct(again.get_all_components(PromptSet))
    except Exception as error:  # whatever Dagster raises
        raise _as_config_error(error, tree.defs_module_path) from error


def _as_config_error(error: BaseException, place: Path) -> ConfigError:
    while not isinstance(error, ConfigError):
        if error.__cause__ is None:
            return ConfigError([Problem(str(place), 0, "", str(error).strip())])
        error = error.__cause__
    return error


def _distinct(components: Sequence[PromptSet]) -> Sequence[LoadedPromptSet]:
    """Name the files of two sets with one name: Dagster would name the assets alone."""
    prompt_sets = [component.prompt_set for component in components]
    places: dict[str, str] = {}
    problems = []
    for each in prompt_sets:
        if each.name in places:
            message = f"is named {each.name}, and so is one in {places[each.name]}: give it a name"
            problems.append(Problem(each.path, 0, "name", message))
        places.setdefault(each.name, each.path)
    if problems:
        raise ConfigError(problems)
    return prompt_sets
