"""What the provider changed about a model is found, and taking it over keeps what was mended."""

from typing import Any

import pytest

from flux_pipeline.models.contract import Contract, parse_contract
from flux_pipeline.models.drift import compare_contracts, renew

INPUTS: dict[str, Any] = {
    "prompt": {"type": "string", "required": True},
    "guidance": {"type": "number", "minimum": 0, "maximum": 10, "default": 3},
    "image": {"type": "string", "format": "uri"},
    "seed": {"type": "integer"},
    "size": {"type": "string", "enum": ["1K", "2K"], "default": "1K"},
}


def contract(inputs: dict[str, Any] = INPUTS, **changes: Any) -> Contract:
    given = {"model": "acme/draw", "version": "official", "output": {"kind": "uri"}}
    return parse_contract({**given, **changes, "inputs": inputs}, "acme.yaml")


def changed(name: str, **facts: Any) -> Contract:
    return contract({**INPUTS, name: {**INPUTS[name], **facts}})


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (changed("guidance", default=3.5), "guidance: default: 3 -> 3.5"),
        (changed("guidance", maximum=20), "guidance: maximum: 10 -> 20"),
        (changed("size", enum=["1K", "4K"]), "size: enum: 1K, 2K -> 1K, 4K"),
        (changed("seed", type="string"), "seed: type: integer -> string"),
        (changed("seed", required=True), "seed: required: false -> true"),
        (changed("image", deprecated=True), "image: deprecated: false -> true"),
        (
            contract({**INPUTS, "style": {"type": "string", "required": True}}),
            "style: is new (needed, string)",
        ),
        (contract({"prompt": INPUTS["prompt"]} | {}), "guidance: is gone"),
        (contract(output={"kind": "uris"}), "output: uri -> uris"),
        (contract(version="ab" * 32), f"version: official -> {'ab' * 32}"),
    ],
)
def test_each_change_is_named(theirs: Contract, said: str) -> None:
    assert said in map(str, compare_contracts(contract(), theirs))


def test_words_order_and_whether_null_is_allowed_are_no_change() -> None:
    theirs = {name: INPUTS[name] for name in reversed(INPUTS)}
    theirs["seed"] = {"type": "integer", "nullable": True, "description": "Random seed."}
    assert compare_contracts(contract(), contract(theirs)) == []


def test_rules_in_python_are_compared_by_names_and_defaults_alone() -> None:
    narrow = {**INPUTS["guidance"], "maximum": 5, "default": 4}
    ours = contract({**INPUTS, "guidance": narrow})
    found = compare_contracts(ours, contract(), typed=True)
    assert list(map(str, found)) == ["guidance: default: 4 -> 3"]


def test_taking_over_keeps_the_price_and_the_roles_that_were_given_by_hand() -> None:
    ours = contract(
        price={"usd_per_image": 0.5},
        pictures={"image": 3},
        aspect_ratio="size",
        image_format="png",
        prompt_tokens=77,
        description="Ours.",
    )
    fresh = contract(
        {**INPUTS, "guidance": {**INPUTS["guidance"], "default": 4}},
        seed="seed",
        pictures={"image": 1},
        description="Theirs.",
    )
    renewed = renew(ours, fresh)
    assert renewed.inputs["guidance"].default == 4
    assert renewed.model_copy(update={"inputs": ours.inputs}) == ours  # seed was taken away by hand


def test_roles_follow_inputs_that_come_and_go() -> None:
    ours = contract(seed="seed", pictures={"image": 1})
    theirs = {"prompt": INPUTS["prompt"], "random_seed": {"type": "integer"}}
    theirs["images"] = {"type": "array", "items": "uri"}
    fresh = contract(theirs, seed="random_seed", pictures={"images": 4})
    renewed = renew(ours, fresh)
    assert (renewed.seed, renewed.pictures) == ("random_seed", {"images": 4})
