"""Contracts are read from replies of every known form, and check what the provider would accept."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flux_pipeline.errors import ConfigError
from flux_pipeline.models.contract import Contract, InputSpec
from flux_pipeline.models.contract_file import dump_contract, load_contract
from flux_pipeline.models.contract_model import ContractModel, build_model
from flux_pipeline.models.description import contract_of, describe_input, example_prompt_set
from flux_pipeline.models.provider_schema import NotAPictureModelError, read_contract
from flux_pipeline.prompts import build_prompt_set, load_prompt_set
from flux_pipeline.prompts.yaml_document import parse_yaml

REPLIES = Path(__file__).parent / "replies"
PICTURES = sorted(path.stem for path in REPLIES.glob("*.json") if "makes_" not in path.name)


def read(name: str) -> Any:
    return json.loads((REPLIES / f"{name}.json").read_text())


def contract(name: str) -> Contract:
    return read_contract(read(name), name=f"acme/{name}")


def input_schema(name: str) -> dict[str, Any]:
    """The reply's Input as a JSON Schema: what the provider itself would check."""
    reply = read(name)
    document = reply.get("latest_version", reply)["openapi_schema"]
    document["components"]["schemas"]["Input"]["additionalProperties"] = False
    return {"$ref": "#/components/schemas/Input", "components": document["components"]}


def test_enums_by_reference_keep_their_types_and_order() -> None:
    found = contract("enums_by_reference")
    assert found.inputs["steps"].enum == (1, 2, 4, 8)
    assert found.inputs["megapixels"].enum == ("1", "0.25")
    assert list(found.inputs)[:3] == ["prompt", "aspect_ratio", "steps"]
    assert (found.seed, found.count, found.format) == ("seed", "num_outputs", "output_format")
    assert (found.aspect_ratio, found.weights) == ("aspect_ratio", ("hf_lora",))
    assert found.output.kind == "uris"


def test_unions_with_null_are_their_other_member_and_null_is_never_a_default() -> None:
    found = contract("version_with_nulls")
    assert found.version == "ab" * 32
    assert found.pictures == {"image": 1}
    strength = found.inputs["strength"]
    assert (strength.type, strength.minimum, strength.maximum) == ("number", 0, 1)
    assert found.inputs["style"].enum == ("None", "oil", "ink")
    assert found.inputs["seed"].maximum == 1000
    assert "image" not in build_model(found).defaults
    assert found.output.kind == "uris"


def test_inputs_may_be_called_as_keys_of_a_prompt_set_and_lack_order_and_type() -> None:
    found = contract("plain_names_without_order")
    assert list(found.inputs)[:4] == ["input", "model", "version", "format"]
    assert found.inputs["input"].type == "any"
    assert found.pictures == {"image_input": 14, "image_url": 1}
    assert found.format == "format"
    assert found.inputs["old"].deprecated


def test_outputs_of_objects_name_the_keys_that_hold_pictures() -> None:
    assert contract("list_of_objects").output.kind == "objects"
    assert contract("list_of_objects").output.pictures == ("image",)
    assert contract("object_of_pictures").output.pictures == ("foreground", "mask")
    assert contract("picture_and_score").output.pictures == ("picture",)
    assert (contract("list_of_objects").width, contract("list_of_objects").height) == (
        "width",
        "height",
    )


def test_a_secret_is_known_as_one_and_an_official_model_has_no_version() -> None:
    found = contract("upscaler_with_a_key")
    assert found.version == "official"
    assert build_model(found).secrets == {"api_key"}
    assert found.pictures == {"img": 1}
    assert found.seed is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("makes_text", "makes text"),
        ("makes_video", "makes video"),
        ("makes_sound", "makes audio"),
        ("makes_svg", "makes SVG"),
        ("makes_values_too", "makes caption beside pictures"),
    ],
)
def test_what_makes_no_pictures_is_refused_with_what_it_makes(name: str, reason: str) -> None:
    with pytest.raises(NotAPictureModelError, match=reason):
        contract(name)


@pytest.mark.parametrize("reply", [{}, {"latest_version": None}, {"openapi_schema": {}}])
def test_a_reply_without_a_description_says_what_to_save(reply: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="openapi_schema"):
        read_contract(reply, name="acme/draw")


def test_a_wrong_version_names_the_place() -> None:
    with pytest.raises(ConfigError, match=r"saved\.json: version: .*64 hex"):
        read_contract(read("version_with_nulls"), name="a/b", version="1", place="saved.json")


@pytest.mark.parametrize("name", PICTURES)
def test_the_example_of_a_model_loads_and_asks_for_something(name: str, tmp_path: Path) -> None:
    found = contract(name)
    folder = tmp_path / "models" / "acme"
    folder.mkdir(parents=True)
    (folder / f"{name}.yaml").write_text(dump_contract(found))
    (tmp_path / "first.yaml").write_text(example_prompt_set(found))
    loaded = load_prompt_set(tmp_path / "first.yaml")
    assert [request.model for request in loaded.requests()] == [f"acme/{name}"]
    assert not loaded.warnings


def test_rules_in_python_are_described_like_a_contract() -> None:
    text = parse_yaml(b"model: lucataco/flux-schnell-lora\nprompts: {a: a fox}", "a.yaml")
    found = contract_of(build_prompt_set("a", text).model)
    assert (found.seed, found.count, found.pictures) == ("seed", "num_outputs", {"image": 1})
    assert describe_input(found, "num_outputs") == "integer, 1 to 4"
    assert describe_input(found, "seed") == "integer, 0 to 4294967295"


@cache
def values_of(name: str, each: str) -> st.SearchStrategy[Any]:
    """Values as tables and YAML give them: of the right kind, and some that are not."""
    spec = model_of(name).contract.inputs[each]
    address = st.sampled_from(["https://example.com/a.png", f"sha256:{'0' * 64}", "castle.png"])
    texts = st.text(max_size=5) | st.sampled_from(["None", "16:9", "1", "2x", "true", "env:KEY"])
    numbers = st.integers(-2, 2000) | st.floats(-1, 12, allow_nan=False)
    kinds = [texts, numbers, numbers.map(str), st.booleans(), st.none(), address]
    kinds += [st.lists(address, max_size=3), st.lists(texts, max_size=3)]
    kinds += [st.sampled_from(spec.enum), st.sampled_from(spec.enum).map(str)] * bool(spec.enum)
    return st.one_of(kinds)


@pytest.mark.parametrize("name", PICTURES)
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_what_passes_here_is_accepted_by_the_providers_own_schema(
    name: str, data: st.DataObject
) -> None:
    model = model_of(name)
    sent: dict[str, Any] = {}
    for each in model.contract.inputs:
        value = data.draw(values_of(name, each), label=each)
        try:
            model.adapters[each].validate_python(value)
        except ValidationError:
            continue
        sent[each] = value
    try:
        checked = model.validate(sent).sent()
    except ValidationError:  # one that is needed was not drawn
        return
    assert not holds_null(checked)
    validator(name).validate(checked)


@cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(input_schema(name))


@cache
def model_of(name: str) -> ContractModel:
    return build_model(contract(name))


def holds_null(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(holds_null, value.values()))
    return any(map(holds_null, value)) if isinstance(value, list) else value is None


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True) | st.sampled_from(
    ["model", "yes", "null", "on", "1", "version", "prompt"]
)
SCALARS = st.text(max_size=8) | st.integers(-9, 9) | st.booleans()
SPECS = st.builds(
    InputSpec,
    type=st.sampled_from(["string", "integer", "number", "boolean", "array", "any"]),
    items=st.sampled_from([None, "string", "uri"]),
    required=st.booleans(),
    nullable=st.booleans(),
    deprecated=st.booleans(),
    enum=st.lists(st.text(max_size=6) | st.integers(0, 9), max_size=3).map(tuple),
    minimum=st.none() | st.integers(-9, 9) | st.floats(-9, 9),
    default=st.none() | SCALARS | st.floats(-9, 9) | st.lists(SCALARS, max_size=2),
    description=st.text(max_size=30),
)
CONTRACTS = st.builds(
    Contract,
    model=st.just("acme/draw"),
    version=st.sampled_from(["official", "ab" * 32, "0" * 64, "1e" + "0" * 62]),
    description=st.text(max_size=30),
    output=st.sampled_from([{"kind": "uri"}, {"kind": "object", "pictures": ["image", "on"]}]),
    inputs=st.dictionaries(NAMES, SPECS, max_size=5),
)


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(written=CONTRACTS)
def test_a_contracts_file_gives_the_same_contract_back(written: Contract, tmp_path: Path) -> None:
    path = tmp_path / "draw.yaml"
    path.write_text(dump_contract(written), "utf-8")
    read_back = load_contract(path)
    assert read_back == written
    assert list(read_back.inputs) == list(written.inputs)
    assert read_back.digest() == written.digest()


@pytest.mark.parametrize(
    ("name", "description", "is_picture"),
    [
        ("reference", "", True),
        ("subject", "Who is drawn.", True),
        ("image_url", "Address of the picture to begin with.", True),
        ("source", "A zip archive of training data.", False),
        ("style", "Weights in safetensors.", False),
        ("lora", "", False),
        ("video", "", False),
    ],
)
def test_an_address_is_a_picture_where_nothing_says_otherwise(
    name: str, description: str, is_picture: bool
) -> None:
    address = {"type": "string", "format": "uri", "description": description}
    schemas = {
        "Input": {"type": "object", "properties": {name: address}},
        "Output": {"type": "string", "format": "uri"},
    }
    reply = {"latest_version": {"openapi_schema": {"components": {"schemas": schemas}}}}
    found = read_contract(reply, name="acme/paint").pictures
    assert found == ({name: 1} if is_picture else {})
