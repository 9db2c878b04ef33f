"""Prompts that are allowed but perhaps not meant are warned of; secrets are in no message."""

import json

import pytest

from flux_pipeline.prompts import build_prompt_set
from flux_pipeline.redaction import redact_input
from tests.prompts.fixtures import Load, ProblemsOf, Write

ACCEPTED = {
    "emoji joined": "a \U0001f469\u200d\U0001f680 and a \U0001f3f3\ufe0f\u200d\U0001f308",
    "script": "<script>alert(1)</script>",
    "Markdown": "a | b | **c** [d](e)",
    "formula": "=cmd()|' /C calc'!A0",
    "line feed and tab": "one\n\ttwo",
    "Persian with its joiner": "می\u200cخواهم",
    "Chinese": "\u4e00\u5ea7\u7f8e\u4e3d\u7684\u57ce\u5821",
}


@pytest.mark.parametrize("prompt", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_prompt_is_sent_unchanged_and_without_a_warning(prompt: str) -> None:
    document = {"model": "lucataco/flux-schnell-lora", "prompts": {"a": prompt}}
    prompt_set = build_prompt_set("x", document)
    (request,) = prompt_set.requests()
    assert request.input["prompt"] == prompt
    assert prompt_set.warnings == ()


WARNED: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "RTL override": ({"a": "a\u202eb"}, ("invisible", "U+202E RIGHT-TO-LEFT OVERRIDE")),
    "zero width space": ({"a": "a\u200bb"}, ("U+200B", "character 2")),
    "joiner behind a letter": ({"a": "a\u200db"}, ("U+200D",)),
    "NFC and NFD": (
        {"a": "caf\u00e9", "b": "cafe\u0301"},
        ("differs from a only", "NFC and NFD"),
    ),
    "Replicate key": ({"a": "my r8_" + "Ab1" * 12}, ("seems to hold a key",)),
    "sk- key": ({"a": "my sk-" + "Ab1" * 12}, ("seems to hold a key",)),
    "bearer": ({"a": "Authorization: Bearer abcdefgh12345678"}, ("seems to hold a key",)),
    "the same twice": ({"a": "a cat", "b": "a cat"}, ("is the same as a", "each is made")),
    "more than 256 tokens": (
        {"a": "many words " * 150},
        ("300 tokens", "256", "without a tokenizer"),
    ),
}


@pytest.mark.parametrize(("prompts", "words"), WARNED.values(), ids=WARNED.keys())
def test_prompt_is_accepted_with_a_warning(prompts: dict[str, str], words: tuple[str, ...]) -> None:
    document = {"model": "lucataco/flux-schnell-lora", "prompts": prompts}
    prompt_set = build_prompt_set("x", document)
    (warning,) = prompt_set.warnings
    assert all(word in warning.message for word in words), warning.message
    assert [request.input["prompt"] for request in prompt_set.requests()] == [*prompts.values()]
    assert not any(text in str(warning) for text in prompts.values() if "ey" in warning.message)
    assert warning.message.isprintable()


@pytest.mark.parametrize("host", ["huggingf\u0430ce.co", "xn--huggingfce-g6h.co"])
def test_a_host_that_may_imitate_another_is_warned_of(load: Load, host: str) -> None:
    (warning,) = load(
        f"prompts: {{a: {{prompt: b, hf_lora: 'https://{host}/f.safetensors'}}}}\n"
    ).warnings
    assert "letters beyond a-z" in warning.message
    assert "xn--" in warning.message


def test_a_token_in_an_address_is_in_no_message(load: Load, problems: ProblemsOf) -> None:
    lora = "https://example.com/f.safetensors?token=s3cr3t"
    prompt_set = load(f"prompts: {{a: {{prompt: b, hf_lora: '{lora}'}}}}\n")
    (request,) = prompt_set.requests()
    assert request.input["hf_lora"] == lora
    assert "s3cr3t" not in str(prompt_set.warnings)
    other = lora.replace(".safetensors", ".zip")
    found = problems(f"prompts: {{a: {{prompt: b, aspect_ratio: '{lora}', hf_lora: '{other}'}}}}\n")
    assert len(found) == 2
    assert "s3cr3t" not in "".join(map(str, found))


def test_an_image_of_a_host_with_foreign_letters_is_warned_of(load: Load) -> None:
    (warning,) = load(
        "prompts: {a: {prompt: b, image: 'https://ex\u00e4mple.com/a.png'}}\n"
    ).warnings
    assert "letters beyond a-z" in warning.message


TOKEN = "c4n4ry-t0k3n"

LORA = f"https://example.com/f.safetensors?token={TOKEN}"


def test_a_token_is_sent_and_printed_nowhere(load: Load) -> None:
    prompt_set = load(
        f"defaults: {{hf_lora: '{LORA}'}}\n"
        "prompts: {a: b, c: b}\n"
        "partitions: {by: shard, count: 1}\n"
    )
    request = next(prompt_set.requests())
    assert request.body()["input"] == {**request.input}
    assert request.input["hf_lora"] == LORA
    assert TOKEN not in repr(prompt_set)
    assert TOKEN not in str(prompt_set.warnings)
    assert TOKEN not in json.dumps(redact_input(request.input))


def test_a_key_in_the_wrong_place_is_not_repeated_by_the_error(problems: ProblemsOf) -> None:
    key = "r8_" + "Ab1" * 12
    for text in (
        f"prompts: {{a: {{prompt: b, aspect_ratio: {key}}}}}\n",
        f"prompts: {{a: b}}\nautomation: {key}\n",
        f"prompts: {{a: {{prompt: b, hf_lora: {key}}}}}\n",
        f"version: {key}\nprompts: {{a: b}}\n",
    ):
        assert key not in "".join(map(str, problems(text)))


def test_one_picture_signed_twice_is_one_request(load: Load) -> None:
    image = "https://bucket.s3.amazonaws.com/cat.png?AWSAccessKeyId=A&Expires={e}&Signature={s}"
    prompt_set = load(
        f"prompts:\n  a: {{prompt: x, seed: 1, image: '{image}', matrix: {{e: [1], s: [b]}}}}\n"
        f"  b: {{prompt: x, seed: 1, image: '{image}', matrix: {{e: [2], s: [c]}}}}\n"
    )
    (warning,) = prompt_set.warnings
    assert "is the same request as a-1-b: made and paid once" in warning.message
    first, second = prompt_set.requests()
    assert first.request_sha256 == second.request_sha256
    assert first.input["image"] != second.input["image"]


def test_prompts_that_are_looked_at_together_are_warned_of_each_by_itself(
    write: Write, load: Load
) -> None:
    remarkable = (1, 499, 500, 501, 1_200)
    rows = [f"view {row}" + "\u200b" * (row in remarkable) for row in range(1, 1_201)]
    write("views.csv", "\n".join(["text", *rows]))
    loaded = load(
        "prompts: {a: {prompt: '{text}', table: views.csv}, b: '{{a}} boat'}\n"
        "partitions: {by: shard, count: 3}"
    )
    told = [each.message.rpartition(" (")[2] for each in loaded.warnings]
    assert told == [f"row {row})" for row in remarkable]
    assert sum(1 for _ in loaded.drafts()) == 1_201
