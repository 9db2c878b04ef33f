"""The OpenAPI document of the emulated API, for readers and for property-based tests."""

from typing import Any

from flux_pipeline.emulator.inputs import SIZES, ModelInput
from flux_pipeline.emulator.pictures import CONTENT_TYPES
from flux_pipeline.emulator.requests import DURATION
from flux_pipeline.emulator.usage import Usage

PREFIXES = ("/v1", "/replicate/v1")
"""Replicate's own, and the aggregator's."""

_ERRORS = {
    400: "The request can't be read.",
    401: "No key, or one that is not accepted.",
    402: "The credit is used up.",
    404: "No such thing, or no list here.",
    422: "Values out of range; nothing was created.",
    429: "Too many requests; the hint says how long to wait.",
}
_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def document() -> dict[str, Any]:
    """The document, as JSON values."""
    paths: dict[str, Any] = {}
    for prefix in PREFIXES:
        collection = f"{prefix}/predictions"
        paths[collection] = {"post": _create(), "get": _list()}
        paths[collection + "/{id}"] = {"get": _get()}
        paths[collection + "/{id}/cancel"] = {"post": _cancel()}
    paths["/output/{id}/{name}"] = {"get": _file()}
    paths["/_emulator/ledger"] = {"get": _usage()}
    usage = Usage.model_json_schema(ref_template="#/components/schemas/{model}")
    return {
        "openapi": "3.1.0",
        "info": {"title": "Emulated prediction API", "version": "1.0.0"},
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Prediction": _PREDICTION,
                "Error": {"type": "object"},
                "Usage": usage,
                **usage.pop("$defs"),
            },
        },
    }


def input_schema() -> dict[str, Any]:
    """JSON Schema of the model's input; unknown members are allowed, and dropped."""
    schema = ModelInput.model_json_schema()
    schema["properties"]["aspect_ratio"]["enum"] = list(SIZES)
    return schema


def _create() -> dict[str, Any]:
    body = {
        "type": "object",
        "required": ["version", "input"],
        "properties": {
            "version": {
                "type": "string",
                "pattern": r"^([A-Za-z0-9._-]+/[A-Za-z0-9._-]+:)?[0-9a-f]{64}$",
            },
            "input": input_schema(),
        },
    }
    return {
        "summary": "Create a prediction",
        "security": [{"key": []}],
        "parameters": [
            _header("Prefer", "wait or wait=1..60 holds the reply; anything else is ignored."),
            _header("Cancel-After", "A duration.", f"^{DURATION}$"),
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {"201": _json("The prediction.", _reference("Prediction")), **_errors()},
    }


def _get() -> dict[str, Any]:
    return {
        "summary": "Get a prediction",
        "security": [{"key": []}],
        "parameters": [_ID],
        "responses": {"200": _json("The prediction.", _reference("Prediction")), **_errors()},
    }


def _cancel() -> dict[str, Any]:
    return _get() | {"summary": "Cancel a prediction"}


def _list() -> dict[str, Any]:
    link = {"type": ["string", "null"]}
    page = {
        "type": "object",
        "required": ["next", "previous", "results"],
        "properties": {
            "next": link,
            "previous": link,
            "results": {"type": "array", "items": _reference("Prediction")},
        },
    }
    time = {"type": "string", "format": "date-time"}
    return {
        "summary": "List predictions, newest first",
        "security": [{"key": []}],
        "parameters": [
            {"name": "created_after", "in": "query", "schema": time},
            {"name": "created_before", "in": "query", "schema": time},
        ],
        "responses": {"200": _json("A page.", page), **_errors()},
    }


def _file() -> dict[str, Any]:
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    image = {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
    content = dict.fromkeys(CONTENT_TYPES.values(), image)
    return {
        "summary": "Download an output; needs no key, and none should be sent",
        "parameters": [_ID, name],
        "responses": {"200": {"description": "The image.", "content": content}, **_errors()},
    }


def _usage() -> dict[str, Any]:
    return {
        "summary": "What was received, accepted and charged",
        "parameters": [
            {
                "name": "predictions",
                "in": "query",
                "description": "Anything but 0 adds every prediction.",
                "schema": {"type": "string"},
            }
        ],
        "responses": {"200": _json("The usage.", _reference("Usage"))},
    }


def _errors() -> dict[str, Any]:
    return {str(status): _json(text, _reference("Error")) for status, text in _ERRORS.items()}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _header(name: str, description: str, pattern: str = "") -> dict[str, Any]:
    schema = {"type": "string", "pattern": pattern} if pattern else {"type": "string"}
    return {"name": name, "in": "header", "description": description, "schema": schema}


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


_TEXT_OR_NULL = {"type": ["string", "null"]}
_PREDICTION: dict[str, Any] = {
    "type": "object",
    "required": ["id", "model", "version", "input", "status", "created_at", "urls"],
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9a-z]{26}$"},
        "model": {"type": "string"},
        "version": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "input": {"type": "object"},
        "logs": {"type": "string"},
        "output": {
            "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": ["string", "null"]}]
        },
        "data_removed": {"type": "boolean"},
        "error": _TEXT_OR_NULL,
        "status": {
            "enum": ["starting", "processing", "succeeded", "failed", "canceled", "aborted"]
        },
        "created_at": {"type": "string", "format": "date-time"},
        "started_at": _TEXT_OR_NULL,
        "completed_at": _TEXT_OR_NULL,
        "metrics": {"type": "object"},
        "urls": {"type": "object", "required": ["get", "cancel"]},
    },
}
