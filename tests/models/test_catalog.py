"""Models are found by their whole name, and are fit to be asked."""

import re

import pytest

from flux_pipeline.models import MODELS, Model, find_model


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_model_is_pinned_priced_and_found(model: Model) -> None:
    assert find_model(model.name) is model
    assert re.fullmatch(r"[a-z0-9_-]+/[a-z0-9_.-]+", model.name)
    assert re.fullmatch(r"[0-9a-f]{64}", model.version)
    assert 0 < model.usd_per_image < 1


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_field_of_a_model_is_described(model: Model) -> None:
    assert all(field.description for field in model.input_type.model_fields.values())


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_the_fields_named_by_a_model_exist(model: Model) -> None:
    fields = model.input_type.model_fields.keys()
    assert model.input_type.address_fields <= fields
    assert {"prompt", "seed"} <= fields
    assert model.input_type.model_validate({"prompt": "a"}).without_effect() <= fields


def test_a_near_name_is_proposed() -> None:
    with pytest.raises(KeyError, match="did you mean lucataco/flux-schnell-lora"):
        find_model("lucataco/flux-schnel-lora")


def test_a_far_name_is_answered_with_all() -> None:
    with pytest.raises(KeyError, match="known: lucataco/flux-schnell-lora"):
        find_model("x")
