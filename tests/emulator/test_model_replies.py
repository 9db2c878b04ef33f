"""Replies about models are the provider's: a client reads its contracts off them."""

import pytest

from flux_pipeline.emulator.contracts import DEFAULT_MODEL, Catalog
from flux_pipeline.emulator.model_replies import model_reply, schema_of, version_reply
from flux_pipeline.models.catalog import BUILT_IN, find_model
from flux_pipeline.models.contract_model import ContractModel
from flux_pipeline.models.provider_schema import read_contract

SHIPPED = sorted(set(BUILT_IN.names()) - {DEFAULT_MODEL})


@pytest.mark.parametrize("name", SHIPPED)
def test_the_contract_of_a_reply_is_the_shipped_one(name: str) -> None:
    contract = Catalog().versions(name)[0]
    model = find_model(name)
    assert isinstance(model, ContractModel)
    shipped = model.contract
    by_model = read_contract(model_reply(contract), name=name)
    by_version = read_contract(version_reply(contract), name=name, version=shipped.version)
    assert (by_model.version, by_model.digest()) == (shipped.version, shipped.digest())
    assert by_version.digest() == shipped.digest()


def test_enums_are_referred_to_by_models_and_in_place_in_versions() -> None:
    contract = Catalog().versions("black-forest-labs/flux-dev")[0]
    referring = schema_of(contract, by_reference=True)["components"]["schemas"]
    ratio = referring["Input"]["properties"]["aspect_ratio"]
    assert ratio["allOf"] == [{"$ref": "#/components/schemas/aspect_ratio"}]
    assert "16:9" in referring["aspect_ratio"]["enum"]
    in_place = schema_of(contract)["components"]["schemas"]
    assert (
        in_place["Input"]["properties"]["aspect_ratio"]["enum"]
        == (referring["aspect_ratio"]["enum"])
    )
    assert in_place["Input"]["required"] == ["prompt"]
    assert in_place["Input"]["properties"]["prompt"]["x-order"] == 0
