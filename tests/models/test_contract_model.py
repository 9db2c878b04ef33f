"""Models by contract: inputs are checked as the provider's schema says, and fingerprints follow."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flux_pipeline.errors import ConfigError
from flux_pipeline.models import Catalog, build_request, find_model
from flux_pipeline.models.contract import Contract, parse_contract
from flux_pipeline.models.contract_file import dump_contract, load_contract
from flux_pipeline.models.contract_model import build_model
from flux_pipeline.prompts import PromptSet, load_prompt_set
from flux_pipeline.request import Source

SOURCE = Source("set", "castle")


def contract(**changes: Any) -> Contract:
    given = {
        "model": "acme/draw",
        "version": "official",
        "output": {"kind": "uris"},
        "price": {"usd_per_image": 0.02},
        "count": "n",
        "seed": "seed",
        "format": "format",
        "pictures": {"images": 2},
        "inputs": {
            "prompt": {"type": "string", "required": True},
            "n": {"type": "integer", "minimum": 1, "maximum": 4, "default": 1},
            "seed": {"type": "integer", "maximum": 1000},
            "format": {"type": "string", "enum": ["png", "jpeg"], "default": "png"},
            "steps": {"type": "integer", "enum": [1, 2, 4], "default": 4},
            "megapixels": {"type": "string", "enum": ["1", "0.25"], "default": "1"},
            "images": {"type": "array", "items": "uri"},
            "key": {"type": "string", "format": "password"},
            "size": {"type": "string", "default": "big"},
            "old": {"type": "boolean", "deprecated": True},
            "none_style": {"type": "string", "enum": ["none", "oil"]},
        },
    }
    return parse_contract({**given, **changes}, "acme.yaml")


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"steps": "2"}, 2),
        ({"steps": 2}, 2),
        ({"megapixels": "0.25"}, "0.25"),
        ({"megapixels": 0.25}, "0.25"),
        ({"n": "3"}, 3),
        ({"old": "true"}, True),
        ({"images": "https://example.com/a.png"}, ["https://example.com/a.png"]),
        ({"size": "16:9"}, "16:9"),
    ],
)
def test_values_are_read_by_the_type_of_the_contract(given: dict[str, Any], sent: Any) -> None:
    values = build_model(contract()).validate({"prompt": "a", **given})
    assert values.sent() == {"prompt": "a", **dict.fromkeys(given, sent)}


@pytest.mark.parametrize(
    "given",
    [
        {"steps": "3"},
        {"megapixels": "2"},
        {"n": 5},
        {"n": "01"},
        {"format": "webp"},
        {"images": ["https://example.com/a.png"] * 3},
        {"images": ["http://example.com/a.png"]},
        {"images": ["https://127.0.0.1/a.png"]},
        {"key": "sk-secret"},
        {"unknown": 1},
        {"size": None},
    ],
)
def test_what_the_provider_would_refuse_or_drop_is_refused_here(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        build_model(contract()).validate({"prompt": "a", **given})


def test_count_format_and_seed_follow_the_contract() -> None:
    model = build_model(contract())
    values = model.validate({"prompt": "a", "n": 3, "format": "jpeg"}).with_seed(model.fit_seed(5))
    request = build_request(model, values, SOURCE)
    assert (request.outputs, request.image_format, request.seed) == (3, "jpg", 5)
    assert request.cost_usd == pytest.approx(0.06)
    assert request.body()["version"] == "acme/draw"
    assert 0 <= model.fit_seed(2**31 - 1) <= 1000


def test_a_default_that_is_written_out_changes_no_fingerprint_and_an_edited_one_does() -> None:
    def sha(one: Contract, **given: Any) -> str:
        model = build_model(one)
        return build_request(model, model.validate({"prompt": "a", **given}), SOURCE).request_sha256

    drifted = contract()
    drifted = drifted.model_copy(
        update={
            "inputs": {
                **drifted.inputs,
                "steps": drifted.inputs["steps"].model_copy(update={"default": 2}),
            }
        }
    )
    assert sha(contract()) == sha(contract(), steps=4)
    assert sha(contract()) != sha(drifted)
    assert sha(contract(), steps=2) == sha(drifted)


def test_a_secret_is_named_by_its_variable_and_counts_in_no_fingerprint() -> None:
    model = build_model(contract())
    plain, keyed = (model.validate({"prompt": "a", **each}) for each in ({}, {"key": "env:KEY"}))
    assert keyed.sent()["key"] == "env:KEY"
    assert plain.effective() == keyed.effective()


def test_takes_of_a_model_without_a_seed_are_told_apart() -> None:
    model = build_model(contract(seed=None))
    values = model.validate({"prompt": "a"})
    takes = [build_request(model, values, Source("set", "castle", take)) for take in (1, 2, 3)]
    days = [build_request(model, values, SOURCE, day=day) for day in ("2026-11-01", "2026-11-02")]
    assert len({each.request_sha256 for each in [*takes, *days]}) == 5
    assert {each.seed for each in takes} == {None}


def test_a_deprecated_input_is_warned_of() -> None:
    values = build_model(contract()).validate({"prompt": "a", "old": True})
    assert [name for name, _ in values.warnings()] == ["old"]


def test_its_file_gives_the_same_contract_back(tmp_path: Path) -> None:
    path = tmp_path / "draw.yaml"
    path.write_text(dump_contract(contract()), encoding="utf-8")
    assert load_contract(path) == contract()


def test_every_mistake_of_a_file_is_told_with_its_key(tmp_path: Path) -> None:
    path = tmp_path / "draw.yaml"
    path.write_text("model: draw\nversion: v1\noutput: {kind: film}\ninputs: {}\ncolour: red\n")
    with pytest.raises(ConfigError) as error:
        load_contract(path)
    assert {problem.key for problem in error.value.problems} == {
        "model",
        "version",
        "output.kind",
        "colour",
    }


def write_model(folder: Path, one: Contract) -> None:
    path = folder / "models" / f"{one.model}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dump_contract(one), encoding="utf-8")


def load(folder: Path, text: str) -> PromptSet:
    path = folder / "winter.yaml"
    path.write_text(text, encoding="utf-8")
    return load_prompt_set(path)


def test_a_prompt_set_names_a_model_of_its_folder(tmp_path: Path) -> None:
    write_model(tmp_path, contract())
    prompt_set = load(tmp_path, "model: acme/draw\nprompts: {a: {prompt: b, steps: 2}, c: d}\n")
    requests = list(prompt_set.requests())
    assert [each.model for each in requests] == ["acme/draw", "acme/draw"]
    assert requests[0].input["steps"] == 2
    assert all(each.seed is not None and each.seed <= 1000 for each in requests)
    assert Catalog.of_configs(tmp_path).origin("acme/draw").endswith("acme/draw.yaml")


def test_a_word_of_an_enum_is_not_the_switch_that_leaves_an_input_out(tmp_path: Path) -> None:
    write_model(tmp_path, contract())
    text = "model: acme/draw\nprompts: {a: {prompt: b, none_style: none, size: plain}}\n"
    assert next(load(tmp_path, text).requests()).input["none_style"] == "none"


def test_a_matrix_of_models_makes_each_prompt_with_each(tmp_path: Path) -> None:
    write_model(tmp_path, contract())
    text = """
prompts:
  a:
    prompt: "a {colour} car"
    matrix: {colour: [red, blue], model: [acme/draw, black-forest-labs/flux-dev]}
"""
    requests = list(load(tmp_path, text).requests())
    assert [each.model for each in requests] == ["acme/draw", "black-forest-labs/flux-dev"] * 2
    assert len({each.source.prompt_name for each in requests}) == 4
    assert {each.input["prompt"] for each in requests} == {"a red car", "a blue car"}


def test_an_input_that_one_of_the_compared_models_lacks_names_both(tmp_path: Path) -> None:
    write_model(tmp_path, contract())
    text = (
        "prompts: {a: {prompt: b, steps: 2,"
        " matrix: {model: [acme/draw, black-forest-labs/flux-dev]}}}\n"
    )
    with pytest.raises(ConfigError, match="acme/draw takes it and black-forest-labs/flux-dev does"):
        load(tmp_path, text)


def test_a_variable_called_model_that_the_text_uses_stays_a_variable(tmp_path: Path) -> None:
    text = (
        "model: black-forest-labs/flux-dev\n"
        'prompts: {a: {prompt: "a {model} car", matrix: {model: [small, large]}}}\n'
    )
    assert [each.input["prompt"] for each in load(tmp_path, text).requests()] == [
        "a small car",
        "a large car",
    ]


def test_a_budget_needs_a_price(tmp_path: Path) -> None:
    write_model(tmp_path, contract(price={}))
    text = "model: acme/draw\nbudget: {usd_per_run: 1}\nprompts: {a: b}\n"
    with pytest.raises(ConfigError, match="the price of acme/draw is unknown"):
        load(tmp_path, text)
    assert load(tmp_path, text.replace("budget: {usd_per_run: 1}\n", "")).prompt_names == ("a",)


def test_a_model_without_a_prompt_takes_none(tmp_path: Path) -> None:
    inputs = {"image": {"type": "string", "format": "uri", "required": True}}
    bare: dict[str, Any] = {"count": None, "seed": None, "format": None}
    write_model(tmp_path, contract(**bare, pictures={"image": 1}, inputs=inputs))
    good = "model: acme/draw\nprompts: {a: {image: https://example.com/a.png}}\n"
    assert next(load(tmp_path, good).requests()).input == {"image": "https://example.com/a.png"}
    with pytest.raises(ConfigError, match="takes no prompt"):
        load(tmp_path, "model: acme/draw\nprompts: {a: a castle}\n")
    with pytest.raises(ConfigError, match=r"unknown key .prompt"):
        load(tmp_path, good.replace("{image:", "{prompt: a castle, image:"))


def test_shipped_models_check_their_inputs() -> None:
    model = find_model("black-forest-labs/flux-dev")
    assert model.validate({"prompt": "a", "aspect_ratio": "16:9"}).outputs == 1
    with pytest.raises(ValidationError):
        model.validate({"prompt": "a", "aspect_ratio": "17:9"})


@pytest.mark.parametrize(
    ("model", "given", "aspect_ratio"),
    [
        ("google/imagen-4", {"aspect_ratio": "16:9"}, "16:9"),
        ("google/imagen-4", {}, "1:1"),
        ("recraft-ai/recraft-v3", {}, ""),
        ("ideogram-ai/ideogram-v3-turbo", {"resolution": "512x1536"}, ""),
        ("black-forest-labs/flux-kontext-pro", {"aspect_ratio": "match_input_image"}, ""),
        (
            "black-forest-labs/flux-kontext-pro",
            {"aspect_ratio": "3:2", "input_image": "https://example.com/a.png"},
            "3:2",
        ),
        (
            "black-forest-labs/flux-dev",
            {"aspect_ratio": "3:2", "image": "https://example.com/a.png"},
            "",
        ),
    ],
)
def test_the_shape_is_known_where_nothing_else_decides_it(
    model: str, given: dict[str, Any], aspect_ratio: str
) -> None:
    values = find_model(model).validate({"prompt": "a castle", **given})
    assert values.shape == aspect_ratio
    assert values.size == (0, 0)
