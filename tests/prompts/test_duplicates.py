"""Prompts of one name are refused, prompts of one input are warned of."""

import pytest

from flux_pipeline.prompts import build_prompt_set, duplicates
from flux_pipeline.prompts.duplicates import Hashes
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


@pytest.mark.parametrize("worth_numpy", [0, 1_000])
def test_values_that_come_again_are_found_among_few_and_among_many(
    monkeypatch: pytest.MonkeyPatch, worth_numpy: int
) -> None:
    monkeypatch.setattr(duplicates, "_WORTH_NUMPY", worth_numpy)
    hashes = Hashes()
    assert not hashes.find_repeated()
    hashes.add_all(["a", "b", "c"])
    hashes.add_all(["a", "c", "a"])
    assert hashes.find_repeated() == {hash("a"), hash("c")}
