"""Builds the JSON Schema of a prompt set's file, by which editors complete and check it.

It is built from the pydantic schema and the models' inputs. ``prompt_set.schema.json`` beside this
module is a copy for editors and for ``flux-pipeline schema``; a test keeps the two equal, and
``make schema`` writes it again.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flux_pipeline.models import BUILT_IN, Catalog, Model
from flux_pipeline.prompts.names import MAX_KEY_CHARACTERS
from flux_pipeline.prompts.schema import PromptSchema, PromptSetSchema

_WITH_PLACEHOLDER = {"type": "string", "pattern": r"\{[^{}]+\}"}
_NONE = {"const": "none"}
_NUMBERS = ("integer", "number")
_COPY = Path(__file__).with_name("prompt_set.schema.json")


def json_schema(catalog: Catalog = BUILT_IN) -> dict[str, Any]:
    """The schema, draft 2020-12, of prompt sets of a catalog's models."""
    schema = PromptSetSchema.model_json_schema()
    definitions: dict[str, Any] = schema.setdefault("$defs", {})
    definitions |= PromptSchema.model_json_schema()["$defs"]
    branches = []
    for model in catalog.models():
        name = model.name.replace("/", ".")
        inputs = {}
        for key, described in _inputs(model).items():
            definitions[f"{name}.{key}"] = described
            inputs[key] = {"$ref": f"#/$defs/{name}.{key}"}
        definitions[f"{name}.defaults"] = _mapping(
            inputs, f"Inputs of {model.name} for every prompt."
        )
        definitions[f"{name}.prompt"] = _prompt(model, inputs)
        branches.append(
            {
                "if": {"properties": {"model": {"const": model.name}}},
                "then": {
                    "properties": {
                        "defaults": {"$ref": f"#/$defs/{name}.defaults"},
                        "prompts": {"additionalProperties": {"$ref": f"#/$defs/{name}.prompt"}},
                    }
                },
            }
        )
    properties: dict[str, Any] = schema["properties"]
    properties["model"]["enum"] = list(catalog.names())
    properties["prompts"]["propertyNames"] = {
        "pattern": "^[a-z0-9][a-z0-9_-]*$",
        "maxLength": MAX_KEY_CHARACTERS,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_with_limits(schema),
        "title": "A prompt set",
        "allOf": branches,
    }


def write_copy() -> None:
    """Write the copy beside this module."""
    _COPY.write_text(to_text(json_schema()), "utf-8")


def read_copy() -> dict[str, Any]:
    """The schema of the built-in models, from the copy: a fiftieth of the time to build it."""
    schema: dict[str, Any] = json.loads(_COPY.read_text("utf-8"))
    return schema


def to_text(schema: Mapping[str, Any]) -> str:
    """The schema as its file holds it."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _with_limits(schema: Any) -> Any:
    """The schema with the limits of optional numbers, which pydantic writes as ge and le."""
    if isinstance(schema, list):
        return [_with_limits(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    limits = {"ge": "minimum", "le": "maximum"} if schema.get("type") in _NUMBERS else {}
    return {limits.get(key, key): _with_limits(part) for key, part in schema.items()}


def _inputs(model: Model) -> dict[str, Any]:
    """The model's inputs but the prompt, each also as a text with placeholders."""
    properties = model.json_schema()
    return {name: _input(value) for name, value in properties.items() if name != "prompt"}


def _input(value: Mapping[str, Any]) -> dict[str, Any]:
    about = {key: value[key] for key in ("description", "default") if value.get(key) is not None}
    kinds = [kind for kind in value.get("anyOf", [_kind(value)]) if kind != {"type": "null"}]
    if len(kinds) < len(value.get("anyOf", ())):
        kinds.append(_NONE)
    # The value may depend on the row: a text with a placeholder is allowed everywhere.
    return {**about, "anyOf": [*kinds, _WITH_PLACEHOLDER]}


def _kind(value: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: part for key, part in value.items() if key not in {"description", "default", "title"}
    }


def _mapping(properties: Mapping[str, Any], description: str) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "additionalProperties": False,
        "properties": dict(properties),
    }


def _prompt(model: Model, inputs: Mapping[str, Any]) -> dict[str, Any]:
    own = dict(PromptSchema.model_json_schema()["properties"])
    if "prompt" not in model.fields:
        del own["prompt"]
        return _mapping({**own, **inputs}, "A prompt's settings; this model takes no text.")
    long = _mapping({**own, **inputs}, "A prompt with keys of its own.")
    if model.needs_prompt:
        long["required"] = ["prompt"]
    return {"anyOf": [{"type": "string", "description": "The prompt's text."}, long]}
