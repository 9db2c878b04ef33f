"""The model's limits, sizes and defaults, as its API documents them."""

import pytest
from pydantic import ValidationError

from flux_pipeline.models.flux_schnell_lora import MODEL, SIZES, FluxSchnellLoraInput


def asked(**values: object) -> FluxSchnellLoraInput:
    return FluxSchnellLoraInput.model_validate({"prompt": "a castle", **values})


def test_is_pinned_to_one_version() -> None:
    assert MODEL.name == "lucataco/flux-schnell-lora"
    assert MODEL.version == "2a6b576af31790b470f0a8442e1e9791213fa13799cbb65a9fc1436e96389574"


def test_defaults_are_the_documented_ones() -> None:
    assert asked().model_dump(exclude={"prompt"}) == {
        "hf_lora": None,
        "lora_scale": 0.8,
        "num_outputs": 1,
        "aspect_ratio": "1:1",
        "output_format": "webp",
        "output_quality": 80,
        "prompt_strength": 0.8,
        "num_inference_steps": 4,
        "seed": None,
        "image": None,
        "disable_safety_checker": False,
    }


@pytest.mark.parametrize(
    ("field", "lowest", "highest"),
    [
        ("lora_scale", 0, 1),
        ("num_outputs", 1, 4),
        ("output_quality", 0, 100),
        ("prompt_strength", 0, 1),
        ("num_inference_steps", 1, 12),
        ("seed", 0, 2**32 - 1),
    ],
)
def test_range_ends_are_taken_and_what_lies_behind_is_not(
    field: str, lowest: int, highest: int
) -> None:
    for inside in (lowest, highest):
        assert getattr(asked(**{field: inside}), field) == inside
    for outside in (lowest - 1, highest + 1):
        with pytest.raises(ValidationError):
            asked(**{field: outside})


@pytest.mark.parametrize(
    ("ratio", "size"),
    [
        ("1:1", (1024, 1024)),
        ("16:9", (1344, 768)),
        ("21:9", (1536, 640)),
        ("3:2", (1216, 832)),
        ("2:3", (832, 1216)),
        ("4:5", (896, 1088)),
        ("5:4", (1088, 896)),
        ("3:4", (896, 1152)),
        ("4:3", (1152, 896)),
        ("9:16", (768, 1344)),
        ("9:21", (640, 1536)),
    ],
)
def test_every_aspect_ratio_has_its_size_in_px(ratio: str, size: tuple[int, int]) -> None:
    assert asked(aspect_ratio=ratio).size == size
    assert len(SIZES) == 11


def test_with_an_image_the_size_is_unknown() -> None:
    assert asked(image="https://example.com/a.png").size == (0, 0)


@pytest.mark.parametrize("form", ["webp", "jpg", "png"])
def test_output_formats(form: str) -> None:
    assert asked(output_format=form).image_format == form


def test_unknown_fields_are_refused_because_the_provider_would_charge_and_ignore_them() -> None:
    with pytest.raises(ValidationError):
        asked(num_output=2)


def test_only_given_fields_are_sent() -> None:
    assert asked(lora_scale="0.8").sent() == {"prompt": "a castle", "lora_scale": 0.8}


@pytest.mark.parametrize(
    ("given", "ignored"),
    [
        ({}, {"prompt_strength", "lora_scale"}),
        ({"hf_lora": "a/b"}, {"prompt_strength"}),
        ({"hf_lora": "a/b", "image": "https://example.com/a.png"}, {"aspect_ratio"}),
        ({"output_format": "png"}, {"prompt_strength", "lora_scale", "output_quality"}),
    ],
)
def test_fields_without_effect(given: dict[str, str], ignored: set[str]) -> None:
    values = asked(**given)
    assert values.without_effect() == ignored
    assert not values.effective().keys() & ignored


def test_the_effective_input_has_no_token_and_no_field_without_a_value() -> None:
    values = asked(hf_lora="https://example.com/f.safetensors?token=abc").effective()
    assert values["hf_lora"] == "https://example.com/f.safetensors?token=REDACTED"
    assert "seed" not in values
    assert None not in values.values()


def test_is_frozen() -> None:
    with pytest.raises(ValidationError):
        asked().prompt = "another"  # type: ignore[misc]


def test_a_mistake_does_not_print_the_input() -> None:
    with pytest.raises(ValidationError) as raised:
        asked(hf_lora="https://example.com/?token=abc")
    assert "abc" not in str(raised.value)
