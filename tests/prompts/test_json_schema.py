"""The JSON Schema accepts the files that the loader accepts, and refuses what an editor can see."""

import json
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from flux_pipeline.errors import ConfigError
from flux_pipeline.prompts import build_prompt_set, json_schema
from flux_pipeline.prompts.json_schema import to_text
from flux_pipeline.prompts.yaml_document import parse_yaml

CONFIGS = sorted(Path(__file__).parents[2].glob("configs/*.yaml"))


@cache
def validator() -> jsonschema.Draft202012Validator:
    """Of the schema, which ``test_is_a_schema`` checks."""
    return jsonschema.Draft202012Validator(json_schema())


def is_valid(document: Any) -> bool:
    return validator().is_valid(document)


def as_an_editor_reads(value: Any) -> Any:
    """Text as YAML 1.2 types it: 16:9 stays text, 010 and 2 become numbers."""
    if isinstance(value, dict):
        return {key: as_an_editor_reads(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_an_editor_reads(item) for item in value]
    if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value):
        return json.loads(value)
    return {"true": True, "false": False}.get(value, value)


def test_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_the_shipped_copy_is_up_to_date() -> None:
    shipped = files("flux_pipeline.prompts").joinpath("prompt_set.schema.json").read_text("utf-8")
    assert shipped == to_text(json_schema()), "make schema"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_prompt_sets_pass(path: Path) -> None:
    document = as_an_editor_reads(parse_yaml(path.read_bytes(), str(path)).value)
    validator().validate(document)


def described(schema: Any, path: str = "") -> list[str]:
    """The paths of properties that an author would meet without a description."""
    missing = []
    for name, value in schema.get("properties", {}).items():
        missing += [] if "description" in value or "$ref" in value else [f"{path}.{name}"]
    for name, value in schema.get("$defs", {}).items():
        missing += described(value, name)
    return missing


def test_every_key_is_described() -> None:
    assert described(json_schema()) == []


GOOD: list[dict[str, Any]] = [
    {"prompts": {"a": "b"}},
    {"prompts": {"a": {"prompt": "b", "takes": 3, "seed": 7}}},
    {"prompts": {"a": {"prompt": "b", "seed": "none", "hf_lora": "none"}}},
    {"prompts": {"a": {"prompt": "b {n}", "num_outputs": "{n}", "matrix": {"n": ["1", "2"]}}}},
    {"prompts": {"a": "b"}, "defaults": {"lora_scale": 1, "aspect_ratio": "16:9"}},
    {"prompts": {"a": "b"}, "partitions": {"by": "shard", "count": 3}},
    {"prompts": {"a": "b"}, "partitions": {"by": "day", "start": "2026-11-01"}},
    {"prompts": {"a": "b"}, "budget": {"usd_per_run": 0.5}, "automation": "on_change"},
    {"prompts": {"a": "b"}, "schedule": {"cron": "0 6 * * *"}, "tags": {"a": "b"}},
]

BAD: list[dict[str, Any]] = [
    {},
    {"prompts": {}},
    {"prompts": {"A b": "c"}},
    {"prompts": {"a": {"takes": 1}}},
    {"prompts": {"a": {"prompt": "b", "num_outputs": 5}}},
    {"prompts": {"a": {"prompt": "b", "num_output": 1}}},
    {"prompts": {"a": {"prompt": "b", "seed": -1}}},
    {"prompts": {"a": "b"}, "budget": {"usd_per_run": -1}},
    {"prompts": {"a": {"prompt": "b", "output_format": "gif"}}},
    {"prompts": {"a": {"prompt": "b", "takes": 0}}},
    {"prompts": {"a": "b"}, "defaults": {"prompt": "c"}},
    {"prompts": {"a": "b"}, "defaults": {"aspect_ratio": "2:1"}},
    {"prompts": {"a": "b"}, "partitions": {"by": "week"}},
    {"prompts": {"a": "b"}, "partitions": {"by": "shard"}},
    {"prompts": {"a": "b"}, "owner": "me"},
    {"prompts": {"a": "b"}, "model": "another/model"},
]


@pytest.mark.parametrize("document", GOOD, ids=str)
def test_schema_and_loader_accept(document: dict[str, Any]) -> None:
    whole = {"model": "lucataco/flux-schnell-lora", **document}
    assert is_valid(whole)
    build_prompt_set("x", whole)


@pytest.mark.parametrize("document", BAD, ids=str)
def test_schema_and_loader_refuse(document: dict[str, Any]) -> None:
    whole = {"model": "lucataco/flux-schnell-lora", **document}
    assert not is_valid(whole)
    with pytest.raises(ConfigError):
        build_prompt_set("x", whole)
