"""What the model takes, and what the API drops."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.emulator.inputs import (
    SIZES,
    InvalidInput,
    ModelInput,
    drawn_seed,
    input_sha,
    read_input,
)


def test_defaults_are_the_models_and_are_not_echoed() -> None:
    typed, echoed = read_input({"prompt": "x"})
    assert echoed == {"prompt": "x"}
    assert (typed.num_outputs, typed.aspect_ratio, typed.output_format) == (1, "1:1", "webp")
    assert (typed.output_quality, typed.num_inference_steps, typed.lora_scale) == (80, 4, 0.8)
    assert (typed.hf_lora, typed.seed, typed.prompt_strength) == (None, None, 0.8)


@pytest.mark.parametrize("ratio", SIZES)
def test_sizes_are_those_of_the_table(ratio: str) -> None:
    width, height = ModelInput(prompt="x", aspect_ratio=ratio).size
    across, down = map(int, ratio.split(":"))
    assert width % 64 == height % 64 == 0
    assert abs(width / height - across / down) < 0.1


@pytest.mark.parametrize("sent", [None, [], "x", 7, [["prompt", "x"]]])
def test_an_input_is_an_object(sent: object) -> None:
    with pytest.raises(InvalidInput):
        read_input(sent)


def test_numbers_are_numbers() -> None:
    assert read_input({"prompt": "x", "lora_scale": 1})[0].lora_scale == 1.0
    assert read_input({"prompt": "x", "seed": 7.0})[0].seed == 7
    for wrong in ({"lora_scale": "1"}, {"lora_scale": float("nan")}, {"seed": 1.5}):
        with pytest.raises(InvalidInput):
            read_input({"prompt": "x", **wrong})


@given(
    st.dictionaries(
        st.sampled_from(["prompt", "num_outputs", "seed", "aspect_ratio", "stray", "hf_lora"]),
        st.one_of(st.text(max_size=5), st.integers(-2, 6), st.none(), st.booleans()),
    )
)
def test_every_object_is_either_refused_or_echoed_without_the_unknown(sent: object) -> None:
    assert isinstance(sent, dict)
    with suppress(InvalidInput):
        _, echoed = read_input(sent)
        assert echoed == {name: value for name, value in sent.items() if name != "stray"}


def test_what_is_refused_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"input.prompt: prompt is required") as caught:
        read_input({"num_outputs": 9})
    assert [field.field for field in caught.value.fields] == ["input.prompt", "input.num_outputs"]


def test_the_name_of_an_input_knows_no_order_but_every_value() -> None:
    one, two = {"prompt": "x", "seed": 1}, {"seed": 1, "prompt": "x"}
    assert input_sha("v", one) == input_sha("v", two)
    assert input_sha("v", one) != input_sha("w", one)
    assert input_sha("v", one) != input_sha("v", {**one, "seed": 2})


def test_drawn_seeds_repeat_as_the_models_do() -> None:
    drawn = [drawn_seed("input", number) for number in range(1200)]
    assert all(0 <= seed < 65_536 for seed in drawn)
    assert len(set(drawn)) < 1200  # 302 draws make a repeat likelier than not
