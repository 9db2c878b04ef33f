"""Describes a model for people: what each input takes, and a prompt set to begin with."""

from collections.abc import Mapping
from typing import Any

import yaml

from flux_pipeline.models.base import Model
from flux_pipeline.models.contract import Contract, InputSpec
from flux_pipeline.models.contract_model import ContractModel
from flux_pipeline.models.drift import describe_limits
from flux_pipeline.models.provider_schema import read_contract

_PICTURE = "https://example.com/picture.png"
_VARIABLE = "NAME_OF_A_VARIABLE"
_LIMITS = {"ge": "minimum", "le": "maximum"}


def contract_of(model: Model) -> Contract:
    """The contract of any model; of one with rules in Python it is made of its JSON Schema."""
    if isinstance(model, ContractModel):
        return model.contract
    required = [name for name, each in model.fields.items() if each.is_required()]
    properties = {name: _plain(value) for name, value in model.json_schema().items()}
    addresses = {"type": "array", "items": {"type": "string", "format": "uri"}}
    schemas = {"Input": {"properties": properties, "required": required}, "Output": addresses}
    described = {"openapi_schema": {"components": {"schemas": schemas}}}
    contract = read_contract(described, name=model.name, version=model.version)
    return contract.model_copy(
        update={"price": model.price, "pictures": model.pictures, "weights": model.weights}
    )


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """An input's JSON Schema with its limits as OpenAPI names them; pydantic writes ge and le."""
    kinds = [
        {_LIMITS.get(key, key): part for key, part in kind.items()}
        for kind in value.get("anyOf", ())
    ]
    return {**value, "anyOf": kinds} if kinds else dict(value)


def describe_input(contract: Contract, name: str) -> str:
    """What one input takes, in words, such as ``integer, 1 to 4`` or ``up to 14 pictures``."""
    most = contract.pictures.get(name)
    if most is not None:
        one = "a picture: a file or an https address"
        is_list = contract.inputs[name].type == "array"
        return f"up to {most} pictures: files or https addresses" if is_list else one
    return describe_limits(contract.inputs[name])


def example_prompt_set(contract: Contract) -> str:
    """The YAML of a prompt set with the inputs that the model needs; it loads as it is."""
    body = {
        name: _example_value(name, spec) for name, spec in contract.inputs.items() if spec.required
    }
    if "prompt" in contract.inputs:
        body["prompt"] = "a lighthouse at dawn"
    if not body and contract.pictures:
        first = next(iter(contract.pictures))
        body[first] = _example_value(first, contract.inputs[first])
    only_text = set(body) == {"prompt"}
    prompts = {"first": body["prompt"] if only_text else body}
    value = {"model": contract.model, "prompts": prompts}
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)


def _example_value(name: str, spec: InputSpec) -> Any:
    if spec.enum:
        return spec.default if spec.default in spec.enum else spec.enum[0]
    if spec.format == "password":
        return f"env:{_VARIABLE}"
    if spec.is_address:
        return [_PICTURE] if spec.type == "array" else _PICTURE
    if spec.default not in (None, "", [], {}):
        return spec.default
    if spec.type in ("integer", "number"):
        limits = (spec.minimum, spec.maximum)
        return next((limit for limit in limits if limit is not None), 1)
    plain = {"boolean": False, "array": ["text"], "object": {}}
    return plain.get(spec.type, f"{name.replace('_', ' ')} of the picture")
