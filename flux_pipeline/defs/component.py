"""The ``PromptSet`` component: a prompt set in another project's ``defs.yaml``.

    type: flux_pipeline.PromptSet
    attributes:
      path: ../../prompts/winter.yaml     # a file as in ``configs/``

or the keys of such a file in place of ``path``. The project's definitions need an
``ImageProducer`` as the resource ``image_producer``.
"""

from typing import Any, Self

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field

from flux_pipeline.defs.build import build_set
from flux_pipeline.errors import ConfigError, Problem
from flux_pipeline.prompts import PromptSet as LoadedPromptSet
from flux_pipeline.prompts import build_prompt_set, json_schema, load_prompt_set


def _add_form(schema: dict[str, Any]) -> None:
    """Show editors the form of the file, from where it is defined."""
    form = json_schema()
    schema["properties"] = {**schema["properties"], **form["properties"]}
    schema["$defs"] = form["$defs"]
    schema["allOf"] = form["allOf"]


class PromptSetAttributes(BaseModel):
    """A file's path, or a file's keys; the keys are checked where files are checked."""

    model_config = ConfigDict(extra="allow", frozen=True, json_schema_extra=_add_form)

    path: str | None = Field(
        default=None, description="A prompt set file, from this folder on; then nothing else."
    )
    name: str | None = Field(
        default=None, description="The prompt set's name; left out, that of this folder."
    )


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
        given = attributes.model_dump(exclude_unset=True) if attributes else {}
        path, name = given.pop("path", None), given.pop("name", None)
        place = str(context.path / "defs.yaml")
        if path is None:
            return cls(build_prompt_set(name or context.path.name, given, path=place))
        if given or name:
            also = ", ".join([*given, *(["name"] if name else [])])
            message = f"names a file, so {also} must stand there and not here"
            raise ConfigError([Problem(place, 0, "attributes.path", message)])
        return cls(load_prompt_set(context.path / path))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Build assets, checks, job and schedule."""
        del context
        return build_set(self.prompt_set)
