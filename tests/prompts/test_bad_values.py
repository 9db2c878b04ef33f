"""Sections B, C and D of the bad inputs: field ranges, prompts, addresses."""

import json

import pytest

from flux_pipeline.errors import ConfigError
from flux_pipeline.prompts import build_prompt_set
from tests.prompts.sets import Load, ProblemsOf, Write

HEX = "0123456789abcdef" * 4

FIELDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "33 num_outputs 0": ("num_outputs: 0", ("num_outputs: 0 is not allowed (1 to 4)",)),
    "34 num_outputs 5": ("num_outputs: 5", ("num_outputs: 5 is not allowed (1 to 4)",)),
    "35 num_outputs two": ("num_outputs: two", ('"two" is not allowed', "a whole number, 1 to 4")),
    "36 num_outputs 1.5": ("num_outputs: 1.5", ("1.5 is not allowed", "a whole number")),
    "37 num_outputs true": ("num_outputs: true", ('"true" is not allowed', "a whole number")),
    "38 steps 0": ("num_inference_steps: 0", ("0 is not allowed (1 to 12)",)),
    "39 steps 13": ("num_inference_steps: 13", ("13 is not allowed (1 to 12)",)),
    "40 quality -1": ("output_quality: -1", ("-1 is not allowed (0 to 100)",)),
    "41 quality 101": ("output_quality: 101", ("101 is not allowed (0 to 100)",)),
    "42 prompt_strength 1.01": ("prompt_strength: 1.01", ("1.01 is not allowed (0 to 1)",)),
    "43 lora_scale high": ("lora_scale: high", ('"high" is not allowed', "a number, 0 to 1")),
    "44 ratio 0:1": ("aspect_ratio: 0:1", ('"0:1" is not allowed', "one of 1:1, 16:9, 21:9")),
    "45 ratio 16/9": ("aspect_ratio: 16/9", ('"16/9" is not allowed', "16:9")),
    "46 ratio 1:1000": ("aspect_ratio: 1:1000", ('"1:1000" is not allowed', "9:21")),
    "47 format gif": ("output_format: gif", ('"gif" is not allowed (one of webp, jpg, png)',)),
    "47 format JPG": ("output_format: JPG", ("write jpg", "one of webp, jpg, png")),
    "47 format jpeg": ("output_format: jpeg", ('"jpeg" is not allowed', "jpg")),
    "seed below zero": ("seed: -1", ("seed: -1 is not allowed (0 to 4294967295)",)),
    "seed too large": ("seed: 4294967296", ("4294967296 is not allowed",)),
    "seed too large in the last take": (
        "{seed: 4294967295, takes: 2}",
        ("in take 2", "4294967296 is not allowed"),
    ),
    "safety switch yes": ("disable_safety_checker: yes", ('"yes" is not allowed (true or false)',)),
    "takes 0": ("takes: 0", ("takes: 0 is not allowed (1 to 1000)",)),
    "takes without seeds": ("{seed: none, takes: 2}", ("same request 2 times", "seed: none")),
    "empty matrix": ("matrix: {a: []}", ("matrix.a: is empty",)),
    "unused matrix": ("matrix: {a: [b]}", ("matrix.a: is used nowhere", "takes")),
    "key without a table": ("key: sku", ("names a column, and there is no table",)),
}


@pytest.mark.parametrize(("field", "words"), FIELDS.values(), ids=FIELDS.keys())
def test_field_is_refused_with_what_is_allowed(
    problems: ProblemsOf, field: str, words: tuple[str, ...]
) -> None:
    inner = field.strip("{}") if field.startswith("{") else field
    (problem,) = problems(f"prompts:\n  a: {{prompt: b, {inner}}}\n")
    assert problem.line == 3
    assert problem.key.startswith("prompts.a.")
    assert all(word in str(problem) for word in words), str(problem)


@pytest.mark.parametrize(
    "field", ["num_outputs: 5", "aspect_ratio: 2:1", "seed: x", "hf_lora: ../x"]
)
def test_a_wrong_default_is_said_once_and_at_the_defaults(problems: ProblemsOf, field: str) -> None:
    (problem,) = problems(f"defaults:\n  {field}\nprompts: {{a: b, c: {{prompt: d}}, e: f}}\n")
    assert problem.line == 3
    assert problem.key == f"defaults.{field.split(':', 1)[0]}"


@pytest.mark.parametrize(
    ("version", "words"),
    {
        "48 no digits": (
            "lucataco/flux-schnell-lora",
            ("names a model and no version", "64 hex digits"),
        ),
        "48 no sha behind the colon": ("'lucataco/flux-schnell-lora:'", ("64 hex digits", "not 0")),
        "48 63 digits": (HEX[:63], ("64 hex digits", "not 63 characters")),
        "48 65 digits": (HEX + "0", ("64 hex digits", "not 65 characters")),
        "48 upper case": (HEX.upper(), ("64 hex digits (0-9, a-f)",)),
        "48 another model's": (f"owner/other:{HEX}", ("another model than lucataco/",)),
    }.values(),
)
def test_48_version_is_refused(problems: ProblemsOf, version: str, words: tuple[str, ...]) -> None:
    (problem,) = problems(f"version: {version}\nprompts: {{a: b}}\n")
    assert problem.key == "version"
    assert all(word in problem.message for word in words), problem.message


@pytest.mark.parametrize("version", [HEX, f"lucataco/flux-schnell-lora:{HEX}"])
def test_48_version_overrides_the_pinned_one(load: Load, version: str) -> None:
    (request,) = load(f"version: {version}\nprompts: {{a: b}}\n").requests()
    assert request.version == HEX
    assert request.body()["version"] == f"lucataco/flux-schnell-lora:{HEX}"


def test_a_model_that_is_not_known_is_answered_with_the_nearest(
    write: Write, problems: ProblemsOf
) -> None:
    (problem,) = problems(b"model: lucataco/flux-schnel-lora\nprompts: {a: b}\n")
    assert "did you mean lucataco/flux-schnell-lora?" in problem.message


PROMPTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "49 empty": ("", ("is empty",)),
    "50 blanks": (" \t\n\u3000", ("is blank",)),
    "51 long": ("a" * 10_001, ("10,001 characters", "at most 10,000")),
    "52 10 MB": ("a" * 10_000_000, ("10,000,000 characters",)),
    "53 lone surrogate": ("ab\ud83d", ("lone surrogate", "\\ud83d", "character 3")),
    "54 NUL": ("a\0b", ("a NUL at character 2",)),
    "55 bell": ("a\x07", ("control character \\x07", "character 2")),
    "55 carriage return": ("a\rb", ("control character \\x0d",)),
    "55 delete": ("a\x7f", ("control character \\x7f",)),
    "59 ANSI escape": ("\x1b[31mred", ("control character \\x1b", "character 1")),
}


@pytest.mark.parametrize(("prompt", "words"), PROMPTS.values(), ids=PROMPTS.keys())
def test_prompt_is_refused_with_the_place(prompt: str, words: tuple[str, ...]) -> None:
    document = {"model": "lucataco/flux-schnell-lora", "prompts": {"a": prompt}}
    with pytest.raises(ConfigError) as raised:
        build_prompt_set("x", document)
    (problem,) = raised.value.problems
    assert problem.key == "prompts.a.prompt"
    assert all(word in problem.message for word in words), problem.message
    assert problem.message.isprintable()


@pytest.mark.parametrize(("prompt", "words"), PROMPTS.values(), ids=PROMPTS.keys())
def test_prompt_of_a_table_is_refused_with_the_row(
    write: Write, problems: ProblemsOf, prompt: str, words: tuple[str, ...]
) -> None:
    write("t.jsonl", json.dumps({"text": "a cat"}) + "\n" + json.dumps({"text": prompt}) + "\n")
    (problem,) = problems('prompts: {p: {prompt: "{text}", table: t.jsonl}}\n')
    assert problem.line == 2
    if len(prompt) < 1_000_000:
        assert "(row 2)" in problem.message
        assert all(word in problem.message for word in words), problem.message
    else:
        assert "more than 1,048,576 bytes" in problem.message


ACCEPTED = {
    "58 emoji joined": "a \U0001f469\u200d\U0001f680 and a \U0001f3f3\ufe0f\u200d\U0001f308",
    "60 script": "<script>alert(1)</script>",
    "61 Markdown": "a | b | **c** [d](e)",
    "62 formula": "=cmd()|' /C calc'!A0",
    "line feed and tab": "one\n\ttwo",
    "Persian with its joiner": "می\u200cخواهم",
    "Chinese": "\u4e00\u5ea7\u7f8e\u4e3d\u7684\u57ce\u5821",
}


@pytest.mark.parametrize("prompt", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_prompt_is_sent_to_the_letter_and_without_a_warning(prompt: str) -> None:
    document = {"model": "lucataco/flux-schnell-lora", "prompts": {"a": prompt}}
    prompt_set = build_prompt_set("x", document)
    (request,) = prompt_set.requests()
    assert request.input["prompt"] == prompt
    assert prompt_set.warnings == ()


WARNED: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "56 RTL override": ({"a": "a\u202eb"}, ("invisible", "U+202E RIGHT-TO-LEFT OVERRIDE")),
    "56 zero width space": ({"a": "a\u200bb"}, ("U+200B", "character 2")),
    "56 joiner behind a letter": ({"a": "a\u200db"}, ("U+200D",)),
    "57 NFC and NFD": (
        {"a": "caf\u00e9", "b": "cafe\u0301"},
        ("differs from a only", "NFC and NFD"),
    ),
    "63 Replicate key": ({"a": "my r8_" + "Ab1" * 12}, ("seems to hold a key",)),
    "63 sk- key": ({"a": "my sk-" + "Ab1" * 12}, ("seems to hold a key",)),
    "63 bearer": ({"a": "Authorization: Bearer abcdefgh12345678"}, ("seems to hold a key",)),
    "64 the same twice": ({"a": "a cat", "b": "a cat"}, ("is the same as a", "each is made")),
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


def test_57_NFC_and_NFD_are_two_requests() -> None:
    document = {
        "model": "lucataco/flux-schnell-lora",
        "defaults": {"seed": 1},
        "prompts": {"a": "caf\u00e9", "b": "cafe\u0301"},
    }
    first, second = build_prompt_set("x", document).requests()
    assert first.request_sha256 != second.request_sha256


def test_64_the_same_request_twice_is_said_to_be_paid_once(load: Load) -> None:
    prompt_set = load("defaults: {seed: 7}\nprompts: {a: a cat, b: a cat}\n")
    (warning,) = prompt_set.warnings
    assert "is the same request as a: made and paid once" in warning.message
    first, second = prompt_set.requests()
    assert first.request_sha256 == second.request_sha256


def test_64_replicas_are_requests_of_their_own(load: Load) -> None:
    first, second = load("prompts: {a: a cat, b: a cat}\n").requests()
    assert first.request_sha256 != second.request_sha256


ADDRESSES: dict[str, tuple[str, tuple[str, ...]]] = {
    "65 file": ("file:///etc/passwd", ("scheme file", "https://")),
    "66 metadata service": ("http://169.254.169.254/x.safetensors", ("scheme http",)),
    "66 metadata service encrypted": ("https://169.254.169.254/x.safetensors", ("public host",)),
    "66 loopback": ("https://127.0.0.1/x.safetensors", ("no IP address",)),
    "66 IPv6": ("https://[::1]/x.safetensors", ("public host",)),
    "66 mapped": ("https://[::ffff:169.254.169.254]/x.safetensors", ("public host",)),
    "66 decimal": ("https://2852039166/x.safetensors", ("public host",)),
    "66 hexadecimal": ("https://0xa9fea9fe/x.safetensors", ("public host",)),
    "66 localhost": ("https://localhost/x.safetensors", ("public host",)),
    "66 inner name": ("https://metadata.google.internal/x.safetensors", ("private network",)),
    "67 user and password": ("https://user:pw@host.com/x.safetensors", ("user name or password",)),
    "67 user": ("https://user@host.com/x.safetensors", ("user name or password",)),
    "68 path": ("../x", ("is a path",)),
    "68 absolute path": ("/etc/passwd", ("is a path",)),
    "68 Windows path": ("C:\\x\\y", ("is a path",)),
    "69 no owner": ("frosting_lane_flux", ("is not owner/name",)),
    "69 three parts": ("a/b/c", ("is not owner/name",)),
    "69 dots": ("owner/flux.1-lora", ("no dots in owner/name",)),
    "69 revision": ("owner/name@main", ("no @revision",)),
    "69 blank in it": ("owner/na me", ("is not owner/name",)),
    "70 long": (
        "https://example.com/" + "a" * 2_040 + ".safetensors",
        ("2,072 characters", "2,048"),
    ),
    "72 data": ("data:application/octet-stream;base64,AAAA", ("data: URI",)),
    "not weights": ("https://example.com/model.zip", ("no weights", ".safetensors")),
    "pinned at huggingface.co": (
        f"https://huggingface.co/o/n/resolve/{HEX[:40]}/f.safetensors",
        ("loads the main revision", "hf.co/owner/name/resolve/<commit>"),
    ),
    "script": ("javascript:alert(1)//x.safetensors", ("owner/name",)),
    "broken": ("https://[x/y.safetensors", ("not a valid web address",)),
}


@pytest.mark.parametrize(("address", "words"), ADDRESSES.values(), ids=ADDRESSES.keys())
def test_lora_is_refused_with_the_reason(
    problems: ProblemsOf, address: str, words: tuple[str, ...]
) -> None:
    (problem,) = problems(f"prompts:\n  a:\n    prompt: b\n    hf_lora: {json.dumps(address)}\n")
    assert (problem.line, problem.key) == (5, "prompts.a.hf_lora")
    assert all(word in problem.message for word in words), problem.message
    assert "pw@" not in problem.message


@pytest.mark.parametrize("host", ["huggingf\u0430ce.co", "xn--huggingfce-g6h.co"])
def test_71_a_host_that_may_imitate_another_is_warned_of(load: Load, host: str) -> None:
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
