"""The ``PromptSet`` component: a prompt set in another project's ``defs.yaml``.

    type: flux_pipeline.PromptSet
    attributes:
      path: ../../prompts/winter.yaml     # a file as in ``configs/``

or the keys of such a file in place of ``path``. The project's definitions need an
``ImageProducer`` as the resource ``image_producer``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field

from flux_pipeline.defs.build import build_set
from flux_pipeline.errors import ConfigError, Problem
from flux_pipeline.prompts import PromptSet as LoadedPromptSet
from flux_pipeline.prompts import build_prompt_set, json_schema, key_lines, load_prompt_set

_START = """\
model: lucataco/flux-schnell-lora
description: What these images are for
prompts:
  castle: a castle in the snow
  moon: {prompt: "the {phase} moon over a harbour", matrix: {phase: [full, new]}}
budget: {usd_per_run: 1}
# owners: ["team:studio"]
# defaults: {hf_lora: alvdansen/frosting_lane_flux, aspect_ratio: 16:9}
# partitions: {by: shard, count: 8}
# schedule: {cron: "0 6 * * *", timezone: Europe/Berlin}
# automation: on_change
"""
"""A prompt set to start from: it loads as it is, for less than a cent."""


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


class PromptSetScaffolder(dg.Scaffolder):
    """Writes a prompt set that loads: a component's ``defs.yaml``, or here a file in ``configs/``.

    Raises:
        SystemExit: With 0, where the file was written to ``configs/``: Dagster would go on and
            look for a ``defs.yaml``. With 1, where that file is there already.
    """

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        """Write the file; a component in Python is Dagster's own form."""
        if request.project_root and request.project_root.resolve() == Path(__file__).parents[2]:
            _start_config(request)
        if request.scaffold_format != "yaml":
            dg.scaffold_component(request)
            return
        body = "".join(f"  {line}\n" for line in _START.splitlines())
        text = f"type: {request.type_name}\n\nattributes:\n{body}"
        if request.append:
            with request.target_path.open("a", encoding="utf-8") as file:
                file.write(f"---\n{text}")
        else:
            (request.target_path / "defs.yaml").write_text(text, encoding="utf-8")


def _start_config(request: dg.ScaffoldRequest[Any]) -> None:
    """This project loads files from ``configs/`` and no folders below ``defs/``."""
    folder = request.target_path
    path = Path(request.project_root or ".") / "configs" / f"{folder.name}.yaml"
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_START)
    except FileExistsError:
        raise SystemExit(f"{path} is there already") from None
    print(f"Here a prompt set is a file: wrote {path}. It has the same keys.")  # noqa: T201
    raise SystemExit(0)


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
        given = attributes.model_dump(exclude_unset=True) if attributes else {}
        path, name = given.pop("path", None), given.pop("name", None)
        place = str(context.path / "defs.yaml")
        if path is None:
            lines = _lines(context.path / "defs.yaml")
            named = name or context.path.name
            return cls(build_prompt_set(named, _ratios(given), path=place, lines=lines))
        if given or name:
            also = ", ".join([*given, *(["name"] if name else [])])
            message = f"names a file, so {also} must stand there and not here"
            raise ConfigError([Problem(place, 0, "attributes.path", message)])
        return cls(load_prompt_set(context.path / path))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Build assets, checks, job and schedule."""
        del context
        return build_set(self.prompt_set)


def _lines(path: Path) -> Mapping[tuple[str, ...], int]:
    """Where the attributes stand; none where several components share the file."""
    lines = key_lines(path)
    return {key[1:]: line for key, line in lines.items() if key[0] == "attributes" and key[1:]}


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
