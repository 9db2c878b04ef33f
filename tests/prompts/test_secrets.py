"""A key or token in a prompt set reaches the provider alone."""

import json

from flux_pipeline.prompts import build_prompt_set
from flux_pipeline.redaction import redact_input
from tests.prompts.sets import Load

TOKEN = "c4n4ry-t0k3n"
LORA = f"https://example.com/f.safetensors?token={TOKEN}"


def test_a_token_is_sent_and_shown_nowhere(load: Load) -> None:
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


def test_a_new_token_pays_for_nothing_again() -> None:
    def fingerprint(token: str) -> str:
        document = {
            "model": "lucataco/flux-schnell-lora",
            "prompts": {"a": {"prompt": "b", "hf_lora": LORA.replace(TOKEN, token)}},
        }
        (request,) = build_prompt_set("x", document).requests()
        return request.request_sha256

    assert fingerprint("one") == fingerprint("two")


def test_a_key_in_a_prompt_is_warned_of_without_being_repeated(load: Load) -> None:
    key = "r8_" + "Ab1" * 12
    (warning,) = load(f"prompts: {{a: a poster that says {key}}}\n").warnings
    assert "seems to hold a key" in warning.message
    assert key not in str(warning)


def test_a_key_in_the_wrong_place_is_not_repeated_by_the_error(
    load: Load, problems: object
) -> None:
    key = "r8_" + "Ab1" * 12
    assert callable(problems)
    for text in (
        f"prompts: {{a: {{prompt: b, aspect_ratio: {key}}}}}\n",
        f"prompts: {{a: b}}\nautomation: {key}\n",
        f"prompts: {{a: {{prompt: b, hf_lora: {key}}}}}\n",
        f"version: {key}\nprompts: {{a: b}}\n",
    ):
        assert key not in "".join(map(str, problems(text)))
