"""A request sends the fields given, and its fingerprint covers what decides the image."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.models import build_request
from flux_pipeline.models.flux_schnell_lora import MODEL, SIZES, FluxSchnellLoraInput
from flux_pipeline.request import Request, Source

SOURCE = Source(prompt_set="set", prompt_name="castle")

few_examples = settings(max_examples=30)
"""An input has ten independent fields: 30 of them reach every one several times."""

inputs = st.fixed_dictionaries(
    {"prompt": st.text(alphabet="abc é城🏰{}", min_size=1).filter(str.strip)},
    optional={
        "hf_lora": st.sampled_from(["a/b", "c/d", "https://e.com/f.safetensors?token=g"]),
        "lora_scale": st.integers(0, 10).map(lambda n: n / 10),
        "num_outputs": st.integers(1, 4),
        "aspect_ratio": st.sampled_from(sorted(SIZES)),
        "output_format": st.sampled_from(["webp", "jpg", "png"]),
        "output_quality": st.integers(0, 100),
        "prompt_strength": st.integers(0, 10).map(lambda n: n / 10),
        "num_inference_steps": st.integers(1, 12),
        "seed": st.integers(0, 2**32 - 1),
        "disable_safety_checker": st.booleans(),
    },
)


def request_of(values: dict[str, Any], version: str | None = None) -> Request:
    checked = FluxSchnellLoraInput.model_validate(values)
    return build_request(MODEL, checked, SOURCE, version=version)


def fingerprint_of(values: dict[str, Any]) -> str:
    return request_of(values).request_sha256


def test_the_fingerprint_is_stable_over_versions_of_this_package() -> None:
    # A change of this value means that every image ever made would be paid for again.
    assert fingerprint_of({"prompt": "a castle", "seed": 7}) == (
        "5a0c4e60dcafecc4dbec4df8ef8488e3e081de9dcce8683590e9dcfad57b9f1a"
    )


def test_the_example_of_the_api_document_is_sent_to_the_letter() -> None:
    example = {
        "prompt": "a beautiful castle frstingln illustration",
        "hf_lora": "alvdansen/frosting_lane_flux",
        "lora_scale": 0.8,
        "num_outputs": 1,
        "aspect_ratio": "1:1",
        "output_format": "webp",
        "output_quality": 80,
        "prompt_strength": 0.8,
        "num_inference_steps": 4,
    }
    assert request_of(example).body() == {
        "version": "lucataco/flux-schnell-lora:"
        "2a6b576af31790b470f0a8442e1e9791213fa13799cbb65a9fc1436e96389574",
        "input": example,
    }


def test_all_that_is_known_before_sending_is_there() -> None:
    request = request_of({"prompt": "a", "num_outputs": 3, "aspect_ratio": "16:9", "seed": 5})
    assert (request.model, request.version) == (MODEL.name, MODEL.version)
    assert (request.outputs, request.width, request.height) == (3, 1344, 768)
    assert (request.image_format, request.seed, request.source) == ("webp", 5, SOURCE)
    assert request.cost_usd == 3 * (MODEL.price.usd_per_image or 0)


def test_another_version_is_another_cause() -> None:
    other = request_of({"prompt": "a"}, version="0" * 64)
    assert other.version == "0" * 64
    assert other.request_sha256 != fingerprint_of({"prompt": "a"})


@few_examples
@given(inputs, st.randoms())
def test_the_order_of_keys_changes_nothing(values: dict[str, Any], random: Any) -> None:
    keys = list(values)
    random.shuffle(keys)
    assert fingerprint_of({key: values[key] for key in keys}) == fingerprint_of(values)


@few_examples
@given(inputs)
def test_a_default_written_out_changes_what_is_sent_and_not_the_fingerprint(
    values: dict[str, Any],
) -> None:
    defaults = FluxSchnellLoraInput(prompt="-").model_dump(exclude_none=True, exclude={"prompt"})
    written = {**defaults, **values}
    assert request_of(written).input == written
    assert request_of(values).input == values
    assert fingerprint_of(written) == fingerprint_of(values)


@few_examples
@given(inputs, st.sampled_from(["prompt_strength", "lora_scale", "output_quality"]), st.data())
def test_a_parameter_without_effect_changes_nothing(
    values: dict[str, Any], name: str, data: st.DataObject
) -> None:
    without = {
        "prompt_strength": values,
        "lora_scale": {k: v for k, v in values.items() if k != "hf_lora"},
        "output_quality": {**values, "output_format": "png"},
    }[name]
    new = data.draw(st.integers(0, 100)) if name == "output_quality" else 0.25
    assert fingerprint_of({**without, name: new}) == fingerprint_of(without)


@few_examples
@given(inputs, inputs)
def test_fingerprints_differ_exactly_where_effective_inputs_do(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    same_effect = (
        FluxSchnellLoraInput.model_validate(first).effective()
        == FluxSchnellLoraInput.model_validate(second).effective()
    )
    assert (fingerprint_of(first) == fingerprint_of(second)) == same_effect


@few_examples
@given(inputs, st.text(alphabet="abc123", min_size=1), st.text(alphabet="abc123", min_size=1))
def test_a_new_token_is_no_new_request(values: dict[str, Any], old: str, new: str) -> None:
    before, after = (
        {**values, "hf_lora": f"https://e.com/f.safetensors?token={token}"} for token in (old, new)
    )
    assert fingerprint_of(before) == fingerprint_of(after)
    assert request_of(after).input["hf_lora"] == after["hf_lora"]


@few_examples
@given(inputs)
def test_the_fingerprint_knows_nothing_of_the_source(values: dict[str, Any]) -> None:
    checked = FluxSchnellLoraInput.model_validate(values)
    other = Source("other", "name", 3, "2026-11-01", "configs/x.yaml", "0" * 64)
    assert build_request(MODEL, checked, other).request_sha256 == fingerprint_of(values)
