"""Which entry of the provider's list is the request whose answer was lost."""

from typing import Any

import pytest

from flux_pipeline.models import build_request, find_model
from flux_pipeline.provider.listing import Match, matches
from flux_pipeline.request import Source
from tests.provider.samples import MODEL, VERSION, make_request

URL = "https://h.example/f.safetensors?token="


def entry(**changes: Any) -> dict[str, Any]:
    given = dict(make_request(lora_scale=0.8, disable=True, extra=[1, {"a": 2}]).input)
    return {"model": MODEL, "version": VERSION, "input": given, **changes}


REQUEST = make_request(lora_scale=0.8, disable=True, extra=[1, {"a": 2}])


def with_input(**changes: Any) -> dict[str, Any]:
    return entry(input={**entry()["input"], **changes})


@pytest.mark.parametrize(
    ("shown", "match"),
    [
        (entry(), Match.OURS),
        (entry(version=f"{MODEL}:{VERSION}"), Match.OURS),
        (entry(model=None), Match.OURS),
        (entry(model=""), Match.OURS),
        (entry(model=f"{MODEL}:{VERSION}"), Match.OURS),
        (with_input(num_inference_steps=4, go_fast=True), Match.OURS),
        (with_input(seed=7.0, num_outputs=1.0), Match.OURS),
        (entry(version="0" * 64), Match.OTHER_VERSION),
        (entry(version=None), Match.OTHER_VERSION),
        (with_input(seed=8), Match.NO),
        (with_input(seed="7"), Match.NO),
        (with_input(seed=None), Match.NO),
        (with_input(prompt="a castle "), Match.NO),
        (with_input(num_outputs=True), Match.NO),
        (with_input(disable=1), Match.NO),
        (with_input(extra=[1, {"a": 3}]), Match.NO),
        (with_input(extra=[1]), Match.NO),
        (with_input(extra=[1, {"a": 2, "b": 3}]), Match.NO),
        (entry(model="other/model"), Match.NO),
        (entry(input={}), Match.UNCLEAR),
        (entry(input=None), Match.UNCLEAR),
        (entry(input="gone"), Match.UNCLEAR),
        (entry(input={k: v for k, v in entry()["input"].items() if k != "seed"}), Match.UNCLEAR),
        (entry(input={"seed": 7}), Match.UNCLEAR),
        ({}, Match.UNCLEAR),
    ],
)
def test_entries(shown: dict[str, Any], match: Match) -> None:
    assert matches(shown, REQUEST) is match


@pytest.mark.parametrize("token", ["secret", "***", "[REDACTED]", ""])
def test_secrets_don_t_count_because_they_may_be_blanked_out(token: str) -> None:
    request = make_request(hf_lora=URL + "secret")
    shown = {"version": VERSION, "input": {**request.input, "hf_lora": URL + token}}
    assert matches(shown, request) is Match.OURS


def test_what_we_send_as_null_may_be_left_out() -> None:
    request = make_request(hf_lora=None)
    shown = {k: v for k, v in request.input.items() if k != "hf_lora"}
    assert matches({"version": VERSION, "input": shown}, request) is Match.OURS
    shown = {**shown, "hf_lora": "a/b"}
    assert matches({"version": VERSION, "input": shown}, request) is Match.NO


def test_an_edited_prompt_that_kept_its_seed_is_not_ours() -> None:
    model = find_model("lucataco/flux-schnell-lora")
    values = model.input_type.model_validate({"prompt": "a castle", "seed": 7})
    request = build_request(model, values, Source("set", "castle"))
    shown = {"model": model.name, "version": request.version, "input": dict(request.input)}

    assert matches(shown, request) is Match.OURS
    shown["input"] = {**request.input, "num_inference_steps": 4}
    assert matches(shown, request) is Match.OURS
    shown["input"] = {**request.input, "num_inference_steps": 8}
    assert matches(shown, request) is Match.NO
