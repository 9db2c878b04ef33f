"""Inputs of models with contracts: what is refused, what is filled in, and what comes of it."""

from typing import Any

import pytest

from flux_pipeline.emulator.contracts import Catalog, Contract
from flux_pipeline.emulator.inputs import InvalidInput
from flux_pipeline.emulator.jobs import Job, cost_of, plan_job, read_values
from tests.emulator.samples import LAYERS

LAYERED = Contract.model_validate(LAYERS)


def job_of(model: str | Contract, **sent: Any) -> Job:
    contract = Catalog().versions(model)[0] if isinstance(model, str) else model
    values, echoed = read_values(contract, sent)
    return plan_job(contract, values, echoed, "http://here")


@pytest.mark.parametrize(
    ("sent", "field", "kind", "text"),
    [
        ({}, "input", "required", "prompt is required"),
        ({"prompt": None}, "input.prompt", "invalid_type", "given: null"),
        ({"prompt": 7}, "input.prompt", "invalid_type", "Expected: string, given: integer"),
        ({"strength": None}, "input.strength", "invalid_type", "given: null"),
        ({"strength": 2}, "input.strength", "number_lte", "less than or equal to 1"),
        ({"strength": -0.1}, "input.strength", "number_gte", "greater than or equal to 0"),
        ({"strength": True}, "input.strength", "invalid_type", "given: boolean"),
        ({"ratio": "4:3"}, "input.ratio", "enum", 'one of the following: "1:1", "16:9"'),
        ({"size": 3}, "input.size", "enum", "1, 2"),
        ({"size": 1.5}, "input.size", "invalid_type", "given: number"),
        ({"words": "x"}, "input.words", "invalid_type", "Expected: array"),
        ({"words": ["x", None]}, "input.words.1", "invalid_type", "given: null"),
    ],
)
def test_what_is_refused_is_named(sent: dict[str, Any], field: str, kind: str, text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_values(LAYERED, sent if sent == {} or "prompt" in sent else {"prompt": "x", **sent})
    assert [(each.field, each.kind) for each in caught.value.fields] == [(field, kind)]
    assert text in caught.value.fields[0].description


def test_an_address_has_a_scheme() -> None:
    contract = Catalog().versions("lucataco/remove-bg")[0]
    with pytest.raises(InvalidInput, match="format 'uri'"):
        read_values(contract, {"image": "castle.png"})


def test_unknown_inputs_are_dropped_or_refused() -> None:
    values, echoed = read_values(LAYERED, {"prompt": "x", "stray": 1})
    assert echoed == {"prompt": "x"}
    assert "stray" not in values
    with pytest.raises(InvalidInput, match="stray is not allowed"):
        read_values(LAYERED, {"prompt": "x", "stray": 1}, refuse_unknown=True)


def test_secrets_are_not_echoed() -> None:
    values, echoed = read_values(LAYERED, {"prompt": "x", "token": "sk-secret"})
    assert values["token"] == "sk-secret"
    assert echoed["token"] == "[REDACTED]"


@pytest.mark.parametrize(
    ("model", "sent", "task", "size"),
    [
        ("black-forest-labs/flux-dev", {"prompt": "x"}, "draw", (1024, 1024)),
        ("black-forest-labs/flux-dev", {"prompt": "x", "megapixels": "0.25"}, "draw", (512, 512)),
        (
            "stability-ai/sdxl",
            {"prompt": "x", "width": 640, "height": 448, "image": "https://a/b"},
            "edit",
            (640, 448),
        ),
        ("recraft-ai/recraft-v3", {"prompt": "x", "size": "1365x1024"}, "draw", (1365, 1024)),
        ("recraft-ai/recraft-v3", {"prompt": "x", "aspect_ratio": "1:2"}, "draw", (720, 1440)),
        ("google/nano-banana", {"prompt": "x", "image_input": ["data:,x"]}, "edit", None),
        ("lucataco/remove-bg", {"image": "https://a/b"}, "cut_out", None),
        ("philz1337x/clarity-upscaler", {"image": "https://a/b"}, "enlarge", None),
    ],
)
def test_task_and_size_follow_the_contract(
    model: str, sent: dict[str, Any], task: str, size: tuple[int, int] | None
) -> None:
    job = job_of(model, **sent)
    assert (job.task, job.asked_size) == (task, size)


@pytest.mark.parametrize(
    ("model", "sent", "factor"),
    [
        ("nightmareai/real-esrgan", {}, 4),
        ("nightmareai/real-esrgan", {"scale": 1.5}, 1.5),
        ("philz1337x/clarity-upscaler", {}, 2),
        ("topazlabs/image-upscale", {"upscale_factor": "6x"}, 6),
        ("topazlabs/image-upscale", {"upscale_factor": "None"}, 1),
        ("recraft-ai/recraft-crisp-upscale", {}, 2),
    ],
)
def test_the_factor_is_read_from_numbers_and_texts(
    model: str, sent: dict[str, Any], factor: float
) -> None:
    assert job_of(model, image="https://a/b", **sent).factor == factor


def test_seeds_are_sent_or_the_default_or_none() -> None:
    picture = "https://a/b"
    assert job_of("philz1337x/clarity-upscaler", image=picture).seed == 1337
    assert job_of("philz1337x/clarity-upscaler", image=picture, seed=7).seed == 7
    assert not job_of("google/nano-banana", prompt="x").has_seed


def test_the_picture_that_is_changed_comes_before_its_mask() -> None:
    job = job_of("stability-ai/sdxl", mask="https://a/m", image="https://a/b")
    assert job.pictures == (("image", -1), ("mask", -1))


def test_formats_and_numbers_follow_the_contract() -> None:
    assert (job_of(LAYERED, prompt="x").output_format, job_of(LAYERED, prompt="x").ending) == (
        "jpg",
        "jpeg",
    )
    assert job_of(LAYERED, prompt="x").num_outputs == 2
    assert job_of("minimax/image-01", prompt="x", number_of_images=3).num_outputs == 3


@pytest.mark.parametrize(
    ("model", "sent", "usd"),
    [
        ("black-forest-labs/flux-dev", {"prompt": "x", "num_outputs": 2}, 0.05),
        ("google/nano-banana-2", {"prompt": "x", "resolution": "4K"}, 0.151),
        ("nightmareai/real-esrgan", {"image": "https://a/b"}, 0.9),
        (LAYERED, {"prompt": "x"}, 0.5),
        (LAYERED.model_copy(update={"price": {"usd_per_second": 0.01}}), {"prompt": "x"}, 0.02),
    ],
)
def test_a_prediction_costs_what_the_contract_says(
    model: str | Contract, sent: dict[str, Any], usd: float
) -> None:
    contract = Catalog().versions(model)[0] if isinstance(model, str) else model
    values, _ = read_values(contract, sent)
    job = job_of(contract, **sent)
    assert cost_of(contract, values, job, seconds=2, otherwise=0.9) == pytest.approx(usd)
