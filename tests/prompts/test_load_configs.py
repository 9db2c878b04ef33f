"""The shipped prompt sets: read first by everybody, so they must be right."""

from pathlib import Path

import pytest

from flux_pipeline.prompts import ByDay, PromptSet, load_prompt_sets
from flux_pipeline.request import Request

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def sets() -> dict[str, PromptSet]:
    return {prompt_set.name: prompt_set for prompt_set in load_prompt_sets(CONFIGS)}


def some_requests(prompt_set: PromptSet) -> list[Request]:
    day = (
        prompt_set.partitions.start.isoformat()
        if isinstance(prompt_set.partitions, ByDay)
        else None
    )
    return list(prompt_set.requests(day))


def test_the_castle_is_the_example_of_the_api_document(sets: dict[str, PromptSet]) -> None:
    (request,) = sets["castle"].requests()
    assert request.body() == {
        "version": "lucataco/flux-schnell-lora:"
        "2a6b576af31790b470f0a8442e1e9791213fa13799cbb65a9fc1436e96389574",
        "input": {
            "prompt": "a beautiful castle frstingln illustration",
            "hf_lora": "alvdansen/frosting_lane_flux",
            "lora_scale": 0.8,
            "num_outputs": 1,
            "aspect_ratio": "1:1",
            "output_format": "webp",
            "output_quality": 80,
            "prompt_strength": 0.8,
            "num_inference_steps": 4,
        },
    }


def test_all_are_described_and_without_a_warning(sets: dict[str, PromptSet]) -> None:
    assert sets.keys() == {
        "castle",
        "harbour",
        "postcard",
        "poster",
        "poster_cutout",
        "poster_night",
        "storybook",
    }
    assert all(prompt_set.description for prompt_set in sets.values())
    assert [prompt_set.warnings for prompt_set in sets.values()] == [()] * len(sets)


def test_a_demonstration_makes_ninety_images_at_most(sets: dict[str, PromptSet]) -> None:
    images = sum(r.outputs for prompt_set in sets.values() for r in some_requests(prompt_set))
    assert 60 <= images <= 90


def test_each_is_within_its_own_budget(sets: dict[str, PromptSet]) -> None:
    for prompt_set in sets.values():
        cost = sum(request.cost_usd for request in some_requests(prompt_set))
        limit = prompt_set.budget.usd_per_run
        assert limit is None or cost <= limit, prompt_set.name


def test_the_book_has_a_scene_of_its_own_for_each_page(sets: dict[str, PromptSet]) -> None:
    prompts = [request.input["prompt"] for request in sets["storybook"].requests()]
    assert len(set(prompts)) == 53


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_schema_that_editors_are_pointed_to_exists(path: Path) -> None:
    first = path.read_text("utf-8").splitlines()[0]
    schema = first.removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / schema).is_file()
