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
    schema["properties"] |= _inlined(form["properties"], form["$defs"])
    schema["allOf"] = _inlined(form["allOf"], form["$defs"])


def _inlined(part: Any, definitions: dict[str, Any]) -> Any:
    """A part of a schema with its definitions in place: ``dg`` puts it into another schema."""
    if isinstance(part, list):
        return [_inlined(each, definitions) for each in part]
    if not isinstance(part, dict):
        return part
    if reference := part.get("$ref"):
        part = {**definitions[reference.removeprefix("#/$defs/")], **part}
    kept = {key: value for key, value in part.items() if key not in ("$ref", "discriminator")}
    return {key: _inlined(value, definitions) for key, value in kept.items()}


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
            return cls(build_prompt_set(name or context.path.name, _ratios(given), path=place))
        if given or name:
            also = ", ".join([*given, *(["name"] if name else [])])
            message = f"names a file, so {also} must stand there and not here"
            raise ConfigError([Problem(place, 0, "attributes.path", message)])
        return cls(load_prompt_set(context.path / path))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Build assets, checks, job and schedule."""
        del context
        return build_set(self.prompt_set)


def _ratios(part: Any) -> Any:
    """The attributes with ``aspect_ratio: 16:9`` as it was written.

    Dagster's YAML takes it for a number to the base 60, which can be turned back.
    """
    if not isinstance(part, dict):
        return part
    return {
        key: f"{value // 60}:{value % 60}"
        if key == "aspect_ratio" and isinstance(value, int)
        else _ratios(value)
        for key, value in part.items()
    }
