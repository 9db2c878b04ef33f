"""Secrets are taken out of addresses, texts and JSON, and nothing else is."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline import redaction
from flux_pipeline.redaction import (
    is_clean_json,
    looks_secret,
    redact,
    redact_input,
    redact_untrusted,
    redact_untrusted_json,
    redact_url,
)

BOTH = pytest.mark.parametrize("redacting", [redact, redact_untrusted])
"""What is known of secrets holds for our own texts and for what comes from outside."""

SECRETS = [
    "r8_" + "Ab1" * 12,
    "sk-" + "Ab1" * 12,
    "sk-proj-" + "a_B1-" * 8,
    "hf_" + "Ab1" * 10,
    "ghp_" + "Ab1" * 12,
    "github_pat_" + "Ab1" * 12,
    "AKIA" + "A1B2" * 4,
    "ASIA" + "A1B2" * 4,
    "xoxb-" + "1234567890",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcDEF",
    "-----BEGIN RSA PRIVATE KEY-----",
    "Bearer abcdefgh12345678",
]


@BOTH
@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_found_and_taken_out(secret: str, redacting: Callable[[str], str]) -> None:
    text = f"a cat with {secret} on it"
    assert looks_secret(text)
    assert secret.removeprefix("Bearer ") not in redacting(text)
    assert redacting(text).startswith("a cat with ")
    assert redacting(text).endswith(" on it")


@pytest.mark.parametrize(
    "text",
    [
        "a risk-taking cat with sk-8 skates",
        "half_a_moon, hf_lora, r8_x",
        "the bearer of good news",
        "bearer bonds of 1920",
        "AKIAX and task-force-alpha-one",
        "sk-eleton-like-figures-in-fog",
        "a data: set of three, and more",
    ],
)
@BOTH
def test_what_only_resembles_one_stays(text: str, redacting: Callable[[str], str]) -> None:
    assert not looks_secret(text)
    assert redacting(text) == text


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.com/f?token=x", "https://a.com/f?token=REDACTED"),
        ("https://a.com/f?a=1&TOKEN=x&b=2", "https://a.com/f?a=1&TOKEN=REDACTED&b=2"),
        ("https://a.com/f?access_token=x", "https://a.com/f?access_token=REDACTED"),
        ("https://a.com/f?api_key=x", "https://a.com/f?api_key=REDACTED"),
        ("https://u:p@a.com:8443/f", "https://a.com:8443/f"),
        ("https://u@a.com/f?x=1#y", "https://a.com/f?x=1#y"),
        ("https://a.com/f?token=", "https://a.com/f?token="),
        ("https://a.com/f?tokens=3&key_frame=2", "https://a.com/f?tokens=3&key_frame=2"),
        ("https://[broken/f?token=x", "REDACTED"),
        (
            "https://b.s3.com/k?X-Amz-Credential=a&X-Amz-Date=1&X-Amz-Signature=b",
            "https://b.s3.com/k?X-Amz-Credential=REDACTED&X-Amz-Date=1&X-Amz-Signature=REDACTED",
        ),
        (
            "https://b.s3.com/k?X-Amz-Security-Token=c",
            "https://b.s3.com/k?X-Amz-Security-Token=REDACTED",
        ),
        ("https://a.blob.com/k?sv=1&sig=b", "https://a.blob.com/k?sv=1&sig=REDACTED"),
        ("https://a.com/k?AWSAccessKeyId=b", "https://a.com/k?AWSAccessKeyId=REDACTED"),
        (
            "https://b.cos.com/k?sign=q-sign-algorithm%3Dsha1%26q-ak%3DA&x=1",
            "https://b.cos.com/k?sign=REDACTED&x=1",
        ),
        ("https://a.com/k?sign=libra", "https://a.com/k?sign=libra"),
        ("https://u:p@ss/w@a.com/f", "REDACTED"),
        ("https://u:p/w@a.com/f", "REDACTED"),
        ("https://u:p#w@a.com/f", "REDACTED"),
        ("https://a.com:8443/@u/f?to=a@b", "https://a.com:8443/@u/f?to=a@b"),
        ("https://[fd00::1]/@u", "https://[fd00::1]/@u"),
    ],
)
def test_url(url: str, expected: str) -> None:
    assert redact_url(url) == expected
    assert redact_url(expected) == expected


def test_urls_and_data_uris_within_a_text() -> None:
    text = "see https://u:p@a.com/f?token=x, and data:image/png;base64,iVBORw0KGgo= here"
    assert redact(text) == "see https://a.com/f?token=REDACTED and data:REDACTED here"


@BOTH
@pytest.mark.parametrize(
    "scheme",
    ["postgresql", "postgresql+psycopg", "redis", "rediss", "amqp", "db+mysql+pymysql", "socks5h"],
)
@pytest.mark.parametrize("password", ["pw-canary", "p@pw-canary", "a/pw-canary", "#pw-canary%x"])
def test_the_address_of_a_database_or_broker_loses_its_user(
    redacting: Callable[[str], str], scheme: str, password: str
) -> None:
    text = f"no answer from {scheme}://user:{password}@db.internal:5432/flux, give up"
    assert redacting(text) == f"no answer from {scheme}://db.internal:5432/flux, give up"


@BOTH
@given(st.text("abcXYZ@/#?%:", min_size=1), st.sampled_from("@/#?"))
def test_nothing_of_a_password_that_is_not_encoded_stays(
    redacting: Callable[[str], str], password: str, sign: str
) -> None:
    text = redacting(f"see https://user:canary{password}{sign}canary@a.com/f here")
    assert "canary" not in text


def test_an_input_is_redacted_in_every_depth() -> None:
    values = redact_input(
        {
            "a": "https://a.com/?key=x",
            "n": 1,
            "l": ["r8_" + "a" * 30],
            "d": {"t": "Bearer 123456789"},
        }
    )
    assert values == {
        "a": "https://a.com/?key=REDACTED",
        "n": 1,
        "l": ["REDACTED"],
        "d": {"t": "Bearer REDACTED"},
    }


@given(st.text(alphabet="abcXYZ012 /?&=:@.-_%#"))
def test_redaction_is_idempotent(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@given(st.text())
def test_any_text_and_any_address_can_be_redacted(text: str) -> None:
    assert isinstance(redact(text), str)
    assert isinstance(redact_url("https://" + text), str)


@given(st.from_regex(redaction._KEY, fullmatch=True))
def test_no_form_of_key_is_passed_over_for_want_of_its_mark(key: str) -> None:
    assert redact_untrusted(key) == redact(key) == "REDACTED"


@given(st.text(alphabet="aB:/.%[]|", min_size=1))
def test_an_address_from_outside_without_user_and_query_stays_as_it_is(rest: str) -> None:
    assert redact_untrusted(f"at http://{rest} then") == f"at http://{rest} then"


R8 = "r8_" + "Ab3" * 12
HF = "hf_" + "Ab3" * 11
SK = "sk-" + "abc123-_" * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a castle: with towers", "a castle: with towers"),
        (f"key {R8}.", "key REDACTED."),
        (f"({HF})", "(REDACTED)"),
        (f"{SK}", "REDACTED"),
        ("hf_lora r8_short sk-short", "hf_lora r8_short sk-short"),
        ("Authorization: Bearer abc.defg", "Authorization: Bearer REDACTED"),
        ("https://a.b/c?d=e&f=g next", "https://a.b/c?REDACTED next"),
        ("HTTPS://u:p@a.b/c", "HTTPS://a.b/c"),
        ("https://a.b/u@v?x", "https://a.b/u@v?REDACTED"),
        ("https://a.b?x=1", "https://a.b?REDACTED"),
        ("https://a.b/c", "https://a.b/c"),
        ("x data:image/png;base64," + "A" * 90 + " y", "x data:REDACTED y"),
        ("a\x00b\x1b[0m\u009bc", "ab[0m\u009bc"),
        ("tab\tline\nend\r", "tab\tline\nend\r"),
        ("pair \U0001f600 lone \ud83d", "pair \U0001f600 lone "),
    ],
)
def test_a_text_from_outside(text: str, expected: str) -> None:
    assert redact_untrusted(text) == expected


def test_the_own_key_is_cut_wherever_it_stands() -> None:
    assert (
        redact_untrusted("https://a.b/mykey/xmykeyx", "mykey", "")
        == "https://a.b/REDACTED/xREDACTEDx"
    )


def test_json_is_redacted_to_its_leaves_and_names() -> None:
    value: Any = {R8: [{"url": "https://a.b?c"}, 1, None, True], "x": {"y": SK}}
    assert redact_untrusted_json(value) == {
        "REDACTED": [{"url": "https://a.b?REDACTED"}, 1, None, True],
        "x": {"y": "REDACTED"},
    }


@given(st.text())
def test_a_text_from_outside_can_be_written_and_stays(text: str) -> None:
    once = redact_untrusted(text)
    once.encode()
    assert "\x00" not in once
    assert redact_untrusted(once) == once


@pytest.mark.parametrize(
    "piece",
    [
        "http://",
        "https://a@",
        "data:",
        "data:a,",
        "bearer ",
        "sk-",
        "a?b=",
        "r8_",
        "-eyJ",
        "xoxb-",
        "data:a;",
        "redis://",
        "https://a:b/@",
        "sign=q-sign-algorithm=",
    ],
)
@BOTH
def test_redaction_takes_linear_time(piece: str, redacting: Callable[[str], str]) -> None:
    text = piece * (2**18 // len(piece))
    begun = time.process_time()
    redacting(text)
    assert time.process_time() - begun < 3.0, "0.2 s is usual; quadratic time takes half a minute"


PIECES = st.sampled_from(
    [
        *SECRETS,
        *(
            "https://",
            "://",
            "?",
            "a.test/x?sig=1",
            "user:pw@",
            "data:",
            ",",
            "bearer ",
            "BEARER x" * 3,
        ),
        *("\n", "\t", "\x00", "\x0b", "\x7f", "\\b", "\\u0000", '"', "\ud83d", "😀", "é", "ſ", "K"),
        *("a cat", "hf_lora", "sk-", "n", " ", "r8_", "Ab1Ab1Ab1Ab1Ab1Ab1Ab1", "key", 'k"\ne'),
    ]
)
TEXTS = st.lists(PIECES, max_size=4).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@given(VALUES, st.sampled_from(["", "key", 'k"\ne', "é"]))
def test_what_counts_as_clean_would_not_be_changed(value: Any, secret: str) -> None:
    if is_clean_json(json.dumps(value), secret):
        assert redact_untrusted_json(value, secret) == value


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("before", ["", "\n", "a ", "é"])
def test_no_text_with_a_secret_counts_as_clean(secret: str, before: str) -> None:
    assert not is_clean_json(json.dumps({"logs": f"{before}{secret}"}))
    assert not is_clean_json(json.dumps({"logs": f"{before}canary"}), "", "canary")


def test_a_usual_reply_counts_as_clean() -> None:
    reply = {
        "input": {"prompt": 'a "cat", 50% off\n', "hf_lora": "owner/task-lora", "go_fast": True},
        "logs": "Using seed: 1\n100%|\u2588\u2588| 4/4 [00:00<?, ?it/s]\n",
        "output": ["https://replicate.delivery/yhqm/abc/out-0.webp"],
        "metrics": {"predict_time": 0.5},
    }
    assert is_clean_json(json.dumps(reply), "the-key")
