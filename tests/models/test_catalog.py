"""Models are found by their whole name, and are fit to be asked."""

import re

import pytest

from flux_pipeline.models import find_model
from flux_pipeline.models.base import TypedModel
from flux_pipeline.models.flux_schnell_lora import MODEL


@pytest.mark.parametrize("model", [MODEL], ids=lambda model: model.name)
def test_every_model_is_pinned_priced_and_found(model: TypedModel) -> None:
    assert find_model(model.name) is model
    assert re.fullmatch(r"[a-z0-9_-]+/[a-z0-9_.-]+", model.name)
    assert re.fullmatch(r"[0-9a-f]{64}", model.version)
    assert 0 < (model.price.usd_per_image or 0) < 1


@pytest.mark.parametrize("model", [MODEL], ids=lambda model: model.name)
def test_every_field_of_a_model_is_described(model: TypedModel) -> None:
    assert all(field.description for field in model.fields.values())


@pytest.mark.parametrize("model", [MODEL], ids=lambda model: model.name)
def test_the_fields_named_by_a_model_exist(model: TypedModel) -> None:
    fields = model.fields.keys()
    assert model.address_fields <= fields
    assert {"prompt", "seed", *model.pictures, *model.weights} <= fields
    assert model.input_type.model_validate({"prompt": "a"}).without_effect() <= fields


def test_a_near_name_is_proposed() -> None:
    with pytest.raises(KeyError, match="did you mean lucataco/flux-schnell-lora"):
        find_model("lucataco/flux-schnel-lora")


def test_a_far_name_is_answered_with_the_command_that_adds_it() -> None:
    with pytest.raises(KeyError, match="flux-pipeline model add x"):
        find_model("x")
