"""Prompts of one name are refused, prompts of one input are warned of."""

from flux_pipeline.prompts import (
    build_prompt_set,
)
from tests.prompts.fixtures import Load, ProblemsOf


def test_two_prompts_of_one_name_are_refused(problems: ProblemsOf) -> None:
    (problem,) = problems('prompts:\n  a-b: c\n  a:\n    prompt: "d {x}"\n    matrix: {x: [b]}\n')
    assert (problem.line, problem.key) == (4, "prompts.a")
    assert "is named a-b too" in problem.message


def test_NFC_and_NFD_are_two_requests() -> None:
    document = {
        "model": "lucataco/flux-schnell-lora",
        "defaults": {"seed": 1},
        "prompts": {"a": "caf\u00e9", "b": "cafe\u0301"},
    }
    first, second = build_prompt_set("x", document).requests()
    assert first.request_sha256 != second.request_sha256


def test_the_same_request_twice_is_paid_once(load: Load) -> None:
    prompt_set = load("defaults: {seed: 7}\nprompts: {a: a cat, b: a cat}\n")
    (warning,) = prompt_set.warnings
    assert "is the same request as a: made and paid once" in warning.message
    first, second = prompt_set.requests()
    assert first.request_sha256 == second.request_sha256


def test_replicas_are_requests_of_their_own(load: Load) -> None:
    first, second = load("prompts: {a: a cat, b: a cat}\n").requests()
    assert first.request_sha256 != second.request_sha256
