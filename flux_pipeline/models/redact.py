"""Takes secrets out of addresses and texts before anybody reads them.

Used for fingerprints, messages, lineage and logs. It removes what it knows: credentials and
key-like query parameters of a URL, ``data:`` URIs, bearer tokens and the key formats of the
providers that meet here. It is no proof that a text holds no secret.
"""

import re
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit, urlunsplit

from flux_pipeline.request import JsonValue

REDACTED = "REDACTED"

_SECRET_PARAMETER = re.compile(
    r"(?i)(.*[-_])?(token|key|apikey|(aws)?accesskey(id)?|secret|password|passwd|signature|sig|"
    r"credential|auth|authorization|policy)([-_]id)?"
)
_SECRET = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"r8_[A-Za-z0-9]{20,}"  # Replicate
    r"|sk-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{16,}"  # OpenAI's form, which most aggregators use too
    r"|hf_[A-Za-z0-9]{20,}"  # Hugging Face
    r"|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}"
    r"|A(?:KIA|SIA)[A-Z0-9]{16}"  # AWS key ids
    r"|xox[abprs]-[A-Za-z0-9-]{10,}"  # Slack
    r"|eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"  # JSON web tokens
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r")"
)
_BEARER = re.compile(r"(?i)\bbearer\s+[A-Za-z0-9._~+/=-]{8,}")
_DATA_URI = re.compile(r"(?i)\bdata:[a-z0-9.+/-]*(?:;[a-z0-9=.+-]+)*,[^\s\"'<>]*")
_URL = re.compile(r"(?i)\bhttps?://[^\s\"'<>]+")


def redact_url(url: str) -> str:
    """The same address without user, password and the values of key-like query parameters.

    Everything else stays to the letter, so that an address without secrets comes back unchanged.
    The trap: a secret in the path is not recognised.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return REDACTED
    query = "&".join(map(_redact_parameter, parts.query.split("&")))
    host = parts.netloc.rpartition("@")[2]
    if (query, host) == (parts.query, parts.netloc):
        return url
    return urlunsplit(SplitResult(parts.scheme, host, parts.path, query, parts.fragment))


def redact(text: str) -> str:
    """Any text without the secrets it holds: URLs, ``data:`` URIs, bearer tokens, known keys."""
    text = _DATA_URI.sub(f"data:{REDACTED}", text)
    text = _URL.sub(lambda found: redact_url(found[0]), text)
    text = _BEARER.sub(f"Bearer {REDACTED}", text)
    return _SECRET.sub(REDACTED, text)


def looks_secret(text: str) -> bool:
    """Whether the text holds something of the form of a key."""
    # Every key has one of these marks, and most prompts none: a tenth of the patterns' cost.
    marked = any(map(text.__contains__, ("_", "-", "AKIA", "ASIA", "eyJ")))
    if marked and _SECRET.search(text) is not None:
        return True
    return "bearer" in text.lower() and _BEARER.search(text) is not None


def redact_input(values: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """A prediction's input with every text in it redacted, for records and messages."""
    return {name: _redact_value(value) for name, value in values.items()}


def _redact_value(value: JsonValue) -> JsonValue:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return redact_input(value)
    if isinstance(value, list):
        return [_redact_value(item) for item in value]
    return value


def _redact_parameter(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    secret = bool(value) and _SECRET_PARAMETER.fullmatch(name) is not None
    return f"{name}{equals}{REDACTED}" if secret else parameter
