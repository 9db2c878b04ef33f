"""Secrets are taken out of addresses and texts, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.models.redact import looks_secret, redact, redact_input, redact_url

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


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_found_and_taken_out(secret: str) -> None:
    text = f"a cat with {secret} on it"
    assert looks_secret(text)
    assert secret.removeprefix("Bearer ") not in redact(text)
    assert redact(text).startswith("a cat with ")
    assert redact(text).endswith(" on it")


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
def test_what_only_resembles_one_stays(text: str) -> None:
    assert not looks_secret(text)
    assert redact(text) == text


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
    ],
)
def test_url(url: str, expected: str) -> None:
    assert redact_url(url) == expected
    assert redact_url(expected) == expected


def test_urls_and_data_uris_within_a_text() -> None:
    text = "see https://u:p@a.com/f?token=x, and data:image/png;base64,iVBORw0KGgo= here"
    assert redact(text) == "see https://a.com/f?token=REDACTED and data:REDACTED here"


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
