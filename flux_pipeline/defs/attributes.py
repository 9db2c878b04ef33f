"""The form of a ``PromptSet`` component's attributes, for editors and ``dg check yaml``."""

from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from flux_pipeline.prompts import json_schema

_SCALARS: list[JsonValue] = ["string", "number", "boolean", "null"]
"""What YAML may make of a text without quotes."""
_NUMBER = r"\{\{|^[-+.\deE_]+$"
"""A number as a text: one of Dagster's templates, or digits, also where YAML sees none (1e3)."""


def _add_form(schema: dict[str, Any]) -> None:
    """Show editors the form of the file, from where it is defined."""
    form = json_schema()
    schema["properties"] |= _inlined(form["properties"], form["$defs"])
    schema["allOf"] = _inlined(form["allOf"], form["$defs"])
    schema["additionalProperties"] = False


def _inlined(part: Any, definitions: dict[str, Any]) -> Any:
    """A part of a schema with its definitions in place: ``dg`` puts it into another schema."""
    if isinstance(part, list):
        return [_inlined(each, definitions) for each in part]
    if not isinstance(part, dict):
        return part
    if reference := part.get("$ref"):
        part = {**definitions[reference.removeprefix("#/$defs/")], **part}
    kept = {key: value for key, value in part.items() if key not in ("$ref", "discriminator")}
    return _as_yaml_reads({key: _inlined(value, definitions) for key, value in kept.items()})


def _as_yaml_reads(part: dict[str, Any]) -> dict[str, Any]:
    """A part of a schema that takes a text also where YAML makes something else of it."""
    if isinstance(choices := part.get("enum"), list):
        return part | {"enum": [*choices, *_made_of(choices)]} | {"type": _SCALARS}
    if part.get("type") == "string":
        return part | {"type": _SCALARS}
    if part.get("type") in {"integer", "number"}:
        return part | {"type": [part["type"], "string"], "pattern": _NUMBER}
    return part


def _made_of(choices: list[Any]) -> Iterator[Any]:
    for choice in choices:
        made = yaml.safe_load(choice) if isinstance(choice, str) else choice
        if made != choice:
            yield made


class PromptSetAttributes(BaseModel):
    """A file's path, or a file's keys; the keys are checked where files are checked.

    Dagster fills it with what YAML makes of them: ``reading.py`` has what they say.
    """

    model_config = ConfigDict(extra="allow", frozen=True, json_schema_extra=_add_form)

    path: Any = Field(
        default=None,
        description="A prompt set file, from this folder on; then nothing else.",
        json_schema_extra={"type": "string"},
    )
    name: Any = Field(
        default=None,
        description="The prompt set's name; left out, that of this folder.",
        json_schema_extra={"type": _SCALARS},
    )
