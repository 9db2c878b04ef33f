"""A request made by a form is the one that its input has by itself, to the letter."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.models import Model, RequestForm, build_request, find_model
from flux_pipeline.models.contract import parse_contract
from flux_pipeline.models.contract_model import build_model
from flux_pipeline.request import Source, fingerprint

TYPED = find_model("lucataco/flux-schnell-lora")
BY_CONTRACT = build_model(
    parse_contract(
        {
            "model": "acme/draw",
            "version": "official",
            "output": {"kind": "uris"},
            "price": {"usd_per_image": 0.02},
            "seed": "dice",
            "aspect_ratio": "shape",
            "inputs": {
                "dice": {"type": "integer", "maximum": 1000, "default": 3},
                "prompt": {"type": "string", "default": ""},
                "shape": {"type": "string", "default": "16:9"},
                "zoom": {"type": "number", "default": 1e-7},
                "key": {"type": "string", "format": "password"},
            },
        },
        "acme.yaml",
    )
)
SEEDLESS = build_model(
    parse_contract(
        {
            "model": "acme/blind",
            "version": "0" * 64,
            "output": {"kind": "uri"},
            "inputs": {"prompt": {"type": "string", "required": True}},
        },
        "acme.yaml",
    )
)

prompts = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1).filter(str.strip)
others = {
    TYPED.name: st.fixed_dictionaries(
        {}, optional={"aspect_ratio": st.sampled_from(["1:1", "9:16"]), "hf_lora": st.just("a/b")}
    ),
    BY_CONTRACT.name: st.fixed_dictionaries(
        {}, optional={"zoom": st.floats(0, 1), "key": st.just("env:KEY")}
    ),
    SEEDLESS.name: st.just({}),
}


@pytest.mark.parametrize("model", [TYPED, BY_CONTRACT, SEEDLESS], ids=lambda each: str(each.name))
@settings(max_examples=30)
@given(st.data())
def test_a_form_makes_the_request_that_an_input_has_by_itself(
    model: Model, data: st.DataObject
) -> None:
    rest = data.draw(others[model.name])
    first, second = data.draw(prompts), data.draw(prompts)
    values = model.validate({"prompt": first, **rest})
    form = RequestForm(model, values.with_seed(0) if model.takes_seed else values)
    seed = {model.seed_input: data.draw(st.integers(0, 1000))} if model.takes_seed else {}
    source = Source("set", "castle", data.draw(st.integers(1, 3)), "2026-11-02")
    whole = model.validate({"prompt": second, **rest, **seed})

    made = form.request({"prompt": second, **seed}, source, day="2026-11-02")

    assert made == build_request(model, whole, source, day="2026-11-02")
    assert dict(made.input) == whole.sent()
    version = model.name if made.is_official else model.version
    more: dict[str, Any] = {} if model.takes_seed else {"take": source.take, "day": "2026-11-02"}
    assert made.request_sha256 == fingerprint(version, whole.effective(), **more)


@pytest.mark.parametrize("model", [TYPED, BY_CONTRACT], ids=lambda each: str(each.name))
def test_inputs_are_sent_in_the_order_of_the_model(model: Model) -> None:
    values = model.validate({"prompt": "a"}).with_seed(0)
    made = RequestForm(model, values).request(
        {"prompt": "b", model.seed_input: 7}, Source("s", "p")
    )
    expected = model.validate({"prompt": "b"}).with_seed(7).sent()
    assert list(made.input.items()) == list(expected.items())


def test_a_prompt_that_decides_more_than_itself_is_not_free() -> None:
    inputs: dict[str, Any] = {"prompt": {"type": "string", "required": True}}
    given = {"model": "acme/draw", "version": "official", "output": {"kind": "uri"}}
    by_prompt = {"usd_per_image_by": {"input": "prompt", "usd": {"cat": 1.0, "dog": 2.0}}}
    of_enum = {"prompt": {**inputs["prompt"], "enum": ["cat", "dog"]}}
    assert build_model(parse_contract({**given, "inputs": inputs}, "a")).free_inputs == {"prompt"}
    for changed in ({"inputs": inputs, "price": by_prompt}, {"inputs": of_enum}):
        assert build_model(parse_contract({**given, **changed}, "a")).free_inputs == frozenset()


@pytest.mark.parametrize("name", ["prompt", "seed"])
@pytest.mark.parametrize(
    "text", ["7", "07", "", " ", "a\r\nb", "a\0", "-1", str(2**32), "x" * 10_001]
)
def test_one_input_is_checked_as_all_of_them_are(name: str, text: str) -> None:
    try:
        whole = TYPED.validate({"prompt": "a", name: text}).sent()[name]
    except ValueError:
        with pytest.raises(ValueError, match=r"validation error"):
            TYPED.validator(name)(text)
    else:
        assert TYPED.validator(name)(text) == whole
