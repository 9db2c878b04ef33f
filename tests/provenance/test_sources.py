"""A picture is traced through the pictures that it was made from, and made again from them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flux_pipeline.lineage.query import Snapshot, open_snapshot
from flux_pipeline.lineage.record import ImageRecord
from flux_pipeline.models import BUILT_IN, Catalog
from flux_pipeline.models.catalog import FOLDER, SHIPPED
from flux_pipeline.prompts import PromptSet
from flux_pipeline.provenance.reproduce import full_request
from flux_pipeline.provenance.sources import describe_source, trace_sources
from flux_pipeline.store.open import open_store
from tests.gallery.samples import an_image, record

FIRST, SECOND, STRANGE = "a1" * 32, "b2" * 32, "c3" * 32
UPSCALER = "recraft-ai/recraft-crisp-upscale"


def no_set(name: str) -> PromptSet:
    raise LookupError(name)


@pytest.fixture
def chain(tmp_path: Path) -> tuple[Snapshot, ImageRecord]:
    """Three steps: a text's picture, one edited with it and a stranger's, and one larger."""
    store = open_store(f"file:{tmp_path}/store")
    first = an_image(store, 1, "tale", file_sha256=FIRST)
    sent = {"prompt": "snow", "images": [f"sha256:{FIRST}", f"sha256:{STRANGE}"]}
    second = an_image(store, 2, "edit", file_sha256=SECOND, input=json.dumps(sent))
    third = an_image(
        store,
        3,
        "print",
        input=json.dumps({"image": f"sha256:{SECOND}"}),
        model=UPSCALER,
        version="official",
        seed=None,
        seed_source="unknown",
    )
    for each in (first, second, third):
        record(store, [each], partition=each.prompt_set)
    return open_snapshot(store), third


def test_the_chain_is_followed_to_its_beginning_and_a_strangers_file_ends_it(
    chain: tuple[Snapshot, ImageRecord],
) -> None:
    (second,) = map(describe_source, trace_sources(*chain))
    assert (second["input"], second["sha256"], second["prompt_set"]) == ("image", SECOND, "edit")
    first, strange = second["sources"]
    assert (first["input"], first["prompt_set"], first["sources"]) == ("images", "tale", [])
    assert (strange["sha256"], strange["uri"], strange["sources"]) == (STRANGE, None, [])


def test_a_step_of_a_chain_is_made_again_from_the_stored_picture_without_its_prompt_set(
    chain: tuple[Snapshot, ImageRecord],
) -> None:
    snapshot, third = chain
    request, doubts = full_request(third, no_set, snapshot, BUILT_IN)
    (picture,) = request.pictures
    assert (picture.sha256, picture.content_type) == (SECOND, "image/webp")
    assert picture.uri.endswith("images/edit/2.webp")
    assert request.request_sha256 == third.request_sha256
    assert doubts == ("the model takes no seed: expect another image",)


def test_a_file_that_only_the_prompt_set_has_is_asked_of_it(
    chain: tuple[Snapshot, ImageRecord],
) -> None:
    snapshot, third = chain
    own = replace(third, input=json.dumps({"image": f"sha256:{STRANGE}"}))
    with pytest.raises(LookupError, match="print"):
        full_request(own, no_set, snapshot, BUILT_IN)


def test_a_model_that_is_not_known_any_more_is_sent_as_it_was_recorded(
    chain: tuple[Snapshot, ImageRecord],
) -> None:
    snapshot, third = chain
    sent = {"prompt": "a fox", "random_seed": 7}
    gone = replace(third, model="acme/gone", input=json.dumps(sent), seed=7)
    request, (doubt,) = full_request(gone, no_set, snapshot, BUILT_IN)
    assert (request.served_as, dict(request.input), request.seed) == ("acme/gone", sent, 7)
    assert "not known here any more" in doubt


def test_the_projects_own_contract_counts_and_a_changed_one_is_a_doubt(
    chain: tuple[Snapshot, ImageRecord], tmp_path: Path
) -> None:
    snapshot, third = chain
    name = "black-forest-labs/flux-dev"
    own = tmp_path / FOLDER / f"{name}.yaml"
    own.parent.mkdir(parents=True)
    text = (SHIPPED / f"{name}.yaml").read_text()
    own.write_text(text.replace("  prompt:", "  words: {type: string}\n  prompt:"))
    sent = json.dumps({"prompt": "a fox", "words": "old", "seed": 7})
    made = replace(third, model=name, input=sent, seed=7)
    request, (doubt,) = full_request(made, no_set, snapshot, Catalog.of_configs(tmp_path))
    assert request.input["words"] == "old"
    assert "the model's contract has changed since" in doubt
