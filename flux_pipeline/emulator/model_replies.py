"""What the API says of models: the replies of ``GET /v1/models/…``, made of their contracts.

The two routes differ as the provider's do: a model's reply names enums by reference, a version's
holds them in place. Source: replies captured in March 2026.
"""

from collections.abc import Mapping
from typing import Any

from flux_pipeline.emulator.contracts import Contract, InputField

_CREATED_AT = "2026-01-01T00:00:00.000000Z"
_WEB = "https://replicate.com"


def model_reply(contract: Contract) -> dict[str, Any]:
    """A model with its latest version."""
    owner, _, name = contract.model.partition("/")
    return {
        "url": f"{_WEB}/{contract.model}",
        "owner": owner,
        "name": name,
        "description": contract.description,
        "visibility": "public",
        "is_official": contract.is_official,
        "github_url": None,
        "paper_url": None,
        "license_url": None,
        "run_count": 0,
        "cover_image_url": None,
        "default_example": None,
        "latest_version": version_reply(contract, by_reference=True),
    }


def version_reply(contract: Contract, *, by_reference: bool = False) -> dict[str, Any]:
    """A version with the OpenAPI document of its inputs and output."""
    return {
        "id": contract.version_id,
        "created_at": _CREATED_AT,
        "cog_version": "0.16.9",
        "openapi_schema": schema_of(contract, by_reference=by_reference),
    }


def schema_of(contract: Contract, *, by_reference: bool = False) -> dict[str, Any]:
    """The document that Cog writes of a model, as far as ``Input`` and ``Output`` go."""
    properties: dict[str, Any] = {}
    enums: dict[str, Any] = {}
    for order, (name, field) in enumerate(contract.inputs.items()):
        kind = _kind(field)
        if field.enum and by_reference:
            enums[name] = {"title": name, "description": "An enumeration.", **kind}
            kind = {"allOf": [{"$ref": f"#/components/schemas/{name}"}]}
        else:
            kind["title"] = name.replace("_", " ").title()
        properties[name] = {**kind, **_about(field), "x-order": order}
    required = [name for name, field in contract.inputs.items() if field.required]
    schema: dict[str, Any] = {"type": "object", "title": "Input", "properties": properties}
    if required:
        schema["required"] = required
    return {
        "openapi": "3.0.2",
        "info": {"title": "Cog", "version": "0.1.0"},
        "paths": {},
        "components": {"schemas": {"Input": schema, "Output": _output(contract), **enums}},
    }


def _kind(field: InputField) -> dict[str, Any]:
    kind: dict[str, Any] = {} if field.type == "any" else {"type": field.type}
    if field.format:
        kind["format"] = field.format
    if field.format == "password":
        kind |= {"writeOnly": True, "x-cog-secret": True}
    if field.items:
        kind["items"] = _items(field.items)
    if field.enum:
        kind["enum"] = list(field.enum)
    limits: Mapping[str, Any] = {"minimum": field.minimum, "maximum": field.maximum}
    return kind | {name: value for name, value in limits.items() if value is not None}


def _items(kind: str) -> dict[str, Any]:
    if kind == "uri":
        return {"type": "string", "format": "uri"}
    return {} if kind == "any" else {"type": kind}


def _about(field: InputField) -> dict[str, Any]:
    about: dict[str, Any] = {"description": field.description} if field.description else {}
    if field.default is not None:
        about["default"] = field.default
    if field.nullable:
        about["nullable"] = True
    return about | ({"deprecated": True} if field.deprecated else {})


def _output(contract: Contract) -> dict[str, Any]:
    address = {"type": "string", "format": "uri"}
    keys = contract.output.pictures or ("image",)
    found = {key: {**address, "title": key.title()} for key in keys}
    item = {"type": "object", "properties": found, "required": list(keys)}
    kinds: Mapping[str, dict[str, Any]] = {
        "uri": address,
        "uris": {"type": "array", "items": address},
        "object": item,
        "objects": {"type": "array", "items": item},
    }
    return {"title": "Output", **kinds[contract.output.kind]}
