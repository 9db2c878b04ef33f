"""Contracts: found by name and by version, in a folder before the shipped ones."""

from pathlib import Path

import pytest

from flux_pipeline.emulator.contracts import (
    DEFAULT_MODEL,
    DEFAULT_VERSION,
    Catalog,
    load_contract,
)
from flux_pipeline.models.catalog import BUILT_IN
from tests.emulator.samples import LAYERS_VERSION, UPSCALER, write_contract


def test_every_shipped_model_is_known() -> None:
    catalog = Catalog()
    for name in BUILT_IN.names():
        assert [contract.model for contract in catalog.versions(name)] == [name]


def test_a_version_alone_finds_its_model() -> None:
    model, version = UPSCALER.split(":")
    found = Catalog().find_version(version)
    assert found is not None
    assert (found.model, found.is_official) == (model, False)
    assert Catalog().find_version("0" * 64) is None


def test_the_default_model_has_a_contract_but_its_input_is_read_without_it() -> None:
    catalog = Catalog()
    assert catalog.versions(DEFAULT_MODEL)[0].version == DEFAULT_VERSION
    assert catalog.find_version(DEFAULT_VERSION) is None


def test_the_folders_contract_hides_the_shipped_one(tmp_path: Path) -> None:
    catalog = Catalog(write_contract(tmp_path, model="google/imagen-4", version="official"))
    assert catalog.versions("google/imagen-4")[0].description == "Makes layers."


def test_a_file_that_comes_or_changes_later_is_seen(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    catalog.check()
    assert catalog.find_version(LAYERS_VERSION) is None
    write_contract(tmp_path)
    assert catalog.find_version(LAYERS_VERSION) is not None
    write_contract(tmp_path, description="Other words, at another time.")
    assert catalog.versions("somebody/layers")[0].description == "Other words, at another time."


@pytest.mark.parametrize("text", ["model: a/b\nversion: official\n", "model: [\nversion: x", "7"])
def test_a_file_that_is_no_contract_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"bad\.yaml: no contract"):
        load_contract(file)


def test_a_folder_is_checked_at_once(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("model: a/b\nversion: official\n")
    with pytest.raises(ValueError, match=r"bad\.yaml"):
        Catalog(tmp_path).check()
    with pytest.raises(ValueError, match="no such folder"):
        Catalog(tmp_path / "missing").check()


def test_ratios_without_quotes_are_text(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(
        "model: a/b\nversion: official\noutput: {kind: uri}\n"
        "inputs: {ratio: {type: string, enum: [16:9, 1:1, no], default: 16:9}}\n"
    )
    assert load_contract(file).inputs["ratio"].enum == ("16:9", "1:1", "no")


def test_an_official_models_id_follows_its_inputs(tmp_path: Path) -> None:
    one = load_contract(write_contract(tmp_path, version="official") / "somebody" / "layers.yaml")
    assert one.version_id != one.drifted({"strength": 0.7}).version_id
    assert one.drifted({"strength": 0.7}).inputs["strength"].default == 0.7
    assert one.drifted({"missing": 1}) is one
