"""The OpenAPI document of the emulated API, for readers and for property-based tests."""

from typing import Any

from flux_pipeline.emulator.contracts import DEFAULT_VERSION, Catalog
from flux_pipeline.emulator.inputs import SIZES, ModelInput
from flux_pipeline.emulator.model_replies import schema_of
from flux_pipeline.emulator.pictures import CONTENT_TYPES
from flux_pipeline.emulator.requests import DURATION
from flux_pipeline.emulator.usage import Usage

PREFIXES = ("/v1", "/replicate/v1")
"""Replicate's own, and the aggregator's."""
EXAMPLE_MODEL = "black-forest-labs/flux-schnell"
"""An official model, whose input stands for those of all models with a contract."""

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
        model = f"{prefix}/models/{{owner}}/{{name}}"
        paths[f"{model}/predictions"] = {"post": _create_by_model()}
        paths[model] = {"get": _about_models("A model with its latest version", "Model")}
        paths[f"{model}/versions"] = {"get": _about_models("A model's versions", "VersionPage")}
        paths[f"{model}/versions/{{id}}"] = {"get": _about_models("A version", "Version", _ID)}
        paths[f"{prefix}/files"] = {"post": _upload(), "get": _list_files()}
        paths[f"{prefix}/files/{{id}}"] = {"get": _stored_file(), "delete": _delete_file()}
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
                **_MODEL_SCHEMAS,
                "File": _FILE,
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
    """Of lucataco/flux-schnell-lora, and of an official model in place of all with a contract."""
    one = {
        "version": {
            "type": "string",
            "pattern": rf"^([A-Za-z0-9._-]+/[A-Za-z0-9._-]+:)?{DEFAULT_VERSION}$",
        },
        "input": input_schema(),
    }
    official = {"version": {"enum": [EXAMPLE_MODEL]}, "input": _example_input()}
    bodies = [
        {"type": "object", "required": ["version", "input"], "properties": properties}
        for properties in (one, official)
    ]
    return _creating("Create a prediction", {"oneOf": bodies})


def _create_by_model() -> dict[str, Any]:
    owner, _, name = EXAMPLE_MODEL.partition("/")
    body = {"type": "object", "required": ["input"], "properties": {"input": _example_input()}}
    created = _creating("Create a prediction of an official model", body)
    parameters = [_path("owner", enum=[owner]), _path("name", enum=[name])]
    return {**created, "parameters": [*parameters, *created["parameters"]]}


def _example_input() -> dict[str, Any]:
    contract = Catalog().versions(EXAMPLE_MODEL)[-1]
    schema: dict[str, Any] = schema_of(contract)["components"]["schemas"]["Input"]
    return schema


def _creating(summary: str, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "summary": summary,
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
    page = _page(_reference("Prediction"))
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


def _about_models(summary: str, schema: str, *more: dict[str, Any]) -> dict[str, Any]:
    return {
        "summary": summary,
        "security": [{"key": []}],
        "parameters": [_path("owner"), _path("name"), *more],
        "responses": {"200": _json(summary + ".", _reference(schema)), **_errors()},
    }


def _upload() -> dict[str, Any]:
    form = {
        "type": "object",
        "required": ["content"],
        "properties": {
            "content": {"type": "string", "format": "binary"},
            "filename": {"type": "string", "maxLength": 60},
            "type": {"type": "string", "pattern": "^[a-z]+/[a-z]+$"},
            "metadata": {"type": "object"},
        },
    }
    coded = {"metadata": {"contentType": "application/json"}}
    content = {"multipart/form-data": {"schema": form, "encoding": coded}}
    return {
        "summary": "Upload a file, to name it in inputs",
        "security": [{"key": []}],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "201": _json("The file.", _reference("File")),
            "413": _json("The file is too large.", _reference("Error")),
            **_errors(),
        },
    }


def _list_files() -> dict[str, Any]:
    page = _page(_reference("File"))
    return {
        "summary": "List files, newest first",
        "security": [{"key": []}],
        "responses": {"200": _json("A page.", page), **_errors()},
    }


def _stored_file() -> dict[str, Any]:
    return {
        "summary": "What is known of a file",
        "security": [{"key": []}],
        "parameters": [_ID],
        "responses": {"200": _json("The file.", _reference("File")), **_errors()},
    }


def _delete_file() -> dict[str, Any]:
    deleted = {"204": {"description": "The file is gone."}, **_errors()}
    return {**_stored_file(), "summary": "Delete a file", "responses": deleted}


def _page(item: dict[str, Any]) -> dict[str, Any]:
    link = {"type": ["string", "null"]}
    results = {"type": "array", "items": item}
    return {
        "type": "object",
        "required": ["next", "previous", "results"],
        "properties": {"next": link, "previous": link, "results": results},
    }


def _path(name: str, **more: Any) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1, **more}
    return {"name": name, "in": "path", "required": True, "schema": schema}


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
        "version": {"type": "string", "pattern": "^([0-9a-f]{64}|hidden)$"},
        "input": {"type": "object"},
        "logs": {"type": "string"},
        "output": {"anyOf": [{"type": "array"}, {"type": "object"}, {"type": ["string", "null"]}]},
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
_VERSION: dict[str, Any] = {
    "type": "object",
    "required": ["id", "created_at", "cog_version", "openapi_schema"],
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "created_at": {"type": "string", "format": "date-time"},
        "cog_version": _TEXT_OR_NULL,
        "openapi_schema": {"type": ["object", "null"]},
    },
}
_MODEL_SCHEMAS: dict[str, Any] = {
    "Version": _VERSION,
    "VersionPage": _page({"$ref": "#/components/schemas/Version"}),
    "Model": {
        "type": "object",
        "required": ["url", "owner", "name", "visibility", "is_official", "latest_version"],
        "properties": {
            "url": {"type": "string", "format": "uri"},
            "owner": {"type": "string"},
            "name": {"type": "string"},
            "description": _TEXT_OR_NULL,
            "visibility": {"enum": ["public", "private"]},
            "is_official": {"type": "boolean"},
            "run_count": {"type": "integer"},
            "default_example": {"type": ["object", "null"]},
            "latest_version": {"$ref": "#/components/schemas/Version"},
        },
    },
}
_FILE: dict[str, Any] = {
    "type": "object",
    "required": [
        "id",
        "urls",
        "content_type",
        "size",
        "checksums",
        "metadata",
        "created_at",
        "expires_at",
    ],
    "properties": {
        "id": {"type": "string"},
        "content_type": {"type": "string"},
        "size": {"type": "integer"},
        "checksums": {
            "type": "object",
            "properties": {"sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"}},
        },
        "metadata": {"type": "object"},
        "created_at": {"type": "string", "format": "date-time"},
        "expires_at": {"type": "string", "format": "date-time"},
        "urls": {
            "type": "object",
            "properties": {"get": {"type": "string", "format": "uri"}},
        },
    },
}
