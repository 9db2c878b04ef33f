"""Removes secrets from URLs, texts and JSON before they are shown, logged or stored.

Fingerprints, messages, lineage, logs and the provider's replies in the ledger all pass through
here. It removes users, passwords and key-like query parameters of URLs, ``data:`` URIs, bearer
tokens and the key formats of well-known services. A URL whose password is not encoded, so that it
is uncertain where that ends, is removed whole. The trap: a secret of another form stays.
Every pattern takes linear time on any text.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

from flux_pipeline.request import JsonValue

REDACTED = "REDACTED"
"""Replaces every secret. Fingerprints contain it: another word would buy those images again."""

_SECRET_PARAMETER = re.compile(
    r"(?i)(.*[-_])?(token|key|apikey|(aws)?accesskey(id)?|secret|password|passwd|signature|sig|"
    r"credential|auth|authorization|policy)([-_]id)?"
)
_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"r8_[A-Za-z0-9]{20,}"  # Replicate
    r"|sk-(?=[A-Za-z_-]{0,64}[0-9])[A-Za-z0-9_-]{16,}"  # OpenAI, most aggregators
    r"|hf_[A-Za-z0-9]{20,}"  # Hugging Face
    r"|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}"
    r"|A(?:KIA|SIA)[A-Z0-9]{16}"  # AWS key ids
    r"|xox[abprs]-[A-Za-z0-9-]{10,}"  # Slack
    r"|eyJ[A-Za-z0-9_-]{8,512}\.eyJ[A-Za-z0-9_-]{8,8192}\.[A-Za-z0-9_-]*"  # JSON web tokens
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r")"
)
_SHORTEST_KEY = 16
"""Characters: nothing shorter is a match of ``_KEY``."""
_KEY_MARKS = ("AKIA", "ASIA", "eyJ")
_JOINED_KEY_MARKS = (
    *("r8_", "sk-", "hf_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
    *("xoxa-", "xoxb-", "xoxp-", "xoxr-", "xoxs-", "-----BEGIN "),
)
"""Every key holds one of these or those, most texts none: looking for them costs a tenth of
``_KEY``."""
_KEY_ANYWHERE = re.compile(_KEY.pattern.removeprefix("(?<![A-Za-z0-9])"))
"""Also behind a letter, which in JSON may be that of an escape, such as a line's end."""
_BEARER = re.compile(r"(?i)\b(bearer\s+)[^\s\"',;]{8,}")
_DATA_URI = re.compile(r"(?i)\bdata:[a-z0-9.+/-]*(?:;[a-z0-9=.+-]+)*,[^\s\"'<>]*")
_URL = re.compile(r"(?i)https?://[^\s\"'<>]+")
_CUT_BEFORE = re.compile(r"[^\s\"'<>@?]*[@?]")
"""The rest of an address, behind its scheme, of which something is secret."""
_SERVICE = re.compile(
    r"(?i)(?<![a-z0-9+])((?:db\+)?(?:postgres(?:ql)?|mysql|mariadb|mongodb|rediss?|sentinel|amqps?|sqs|"
    r"socks[45][ah]?)(?:\+\w{1,20})?://)([^\s\"'<>]+)"
)
"""The address of a database, a broker or a proxy: what precedes its last ``@`` is secret."""
_COS_SIGN = re.compile(r"(?i)sign=q-sign-algorithm(?:=|%3d).*")
"""Tencent's signature in a single parameter; of others ``sign`` may be a word like any other."""
_UNSAFE_ESCAPE = re.compile(r"\\(?:[bf]|u(?:00(?:0[0-8be-f]|1[0-9a-f]|7f)|d[89a-f]))")
"""In ASCII JSON: a character of ``_UNSAFE``, or half of one beyond the first 65,536."""
# NUL and lone surrogates can't be written to a database; the others act on a terminal.
_UNSAFE = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 127, *range(0xD800, 0xE000)))


def redact(text: str) -> str:
    """A text of the user's own without its secrets; the rest of a URL stays as it is."""
    return _redact(text, redact_url)


def redact_untrusted(text: str, *secrets: str) -> str:
    """A text that came from outside, such as a provider's error, fit to be logged and kept.

    Beyond ``redact`` the whole query of an address is cut, because anything in it may be a
    signature; ``secrets`` are removed to the letter wherever they stand; and control characters and
    lone surrogates, which a database refuses, are dropped.
    """
    for secret in secrets:
        if secret:
            text = text.replace(secret, REDACTED)
    text = _redact(text, _cut_query)
    return text if text.isprintable() else text.translate(_UNSAFE)


def redact_untrusted_json(value: Any, *secrets: str) -> Any:
    """A copy of a JSON value with every string and name as ``redact_untrusted`` gives it."""
    if isinstance(value, str):
        return redact_untrusted(value, *secrets)
    if value is None or isinstance(value, (int, float)):
        return value
    if isinstance(value, list):
        return [redact_untrusted_json(each, *secrets) for each in value]
    if isinstance(value, Mapping):
        return {
            _redact_name(name, secrets): redact_untrusted_json(each, *secrets)
            for name, each in value.items()
        }
    return value


def is_clean_json(text: str, *secrets: str) -> bool:
    """Whether ``redact_untrusted_json`` would change nothing in what this ASCII JSON says.

    It looks at the text as a whole, at a tenth of the cost, and nearly every reply is clean. False
    also where it can't tell.
    """
    if any(secret and json.dumps(secret)[1:-1] in text for secret in secrets):
        return False
    if ("@" in text or "?" in text) and any(map(_CUT_BEFORE.match, text.split("://")[1:])):
        return False
    if "\\" in text and _UNSAFE_ESCAPE.search(text):
        return False
    lower = text.lower()
    if "data:" in lower or "bearer" in lower:
        return False
    return not (_may_hold_key(text) and _KEY_ANYWHERE.search(text))


def _redact_name(name: str, secrets: tuple[str, ...]) -> str:
    # Names of fields are short words, too short for a key, and as many as the texts.
    is_word = len(name) < _SHORTEST_KEY and name.isidentifier()
    if is_word and not any(secret and secret in name for secret in secrets):
        return name
    return redact_untrusted(name, *secrets)


def redact_input(values: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """A prediction's input with ``redact`` applied to every text in it."""
    return {name: _redact_value(value) for name, value in values.items()}


def redact_url(url: str) -> str:
    """The same address without user, password and the values of key-like query parameters.

    Everything else stays to the letter, so that an address without secrets comes back unchanged.
    The trap: a secret in the path is not recognised.
    """
    if _is_unsure(url):
        return REDACTED
    try:
        parts = urlsplit(url)
    except ValueError:
        return REDACTED
    query = "&".join(map(_redact_parameter, parts.query.split("&")))
    host = parts.netloc.rpartition("@")[2]
    if (query, host) == (parts.query, parts.netloc):
        return url
    return urlunsplit(SplitResult(parts.scheme, host, parts.path, query, parts.fragment))


def looks_secret(text: str) -> bool:
    """Whether the text holds something of the form of a key."""
    if _may_hold_key(text) and _KEY.search(text) is not None:
        return True
    return "bearer" in text.lower() and _BEARER.search(text) is not None


def _redact(text: str, redact_address: Callable[[str], str]) -> str:
    # This runs for every text of every reply, so each pattern is tried only where it can match.
    if "," in text and ":" in text:
        text = _DATA_URI.sub(f"data:{REDACTED}", text)
    # Of an address without either nothing is cut; of the user's own one that is none is.
    is_plain = redact_address is _cut_query and "@" not in text and "?" not in text
    if "://" in text and not is_plain:
        text = _URL.sub(lambda found: redact_address(found[0]), text)
        text = _SERVICE.sub(lambda found: found[1] + found[2].rpartition("@")[2], text)
    if "bearer" in text.lower():
        text = _BEARER.sub(rf"\1{REDACTED}", text)
    return _KEY.sub(REDACTED, text) if _may_hold_key(text) else text


def _may_hold_key(text: str) -> bool:
    has = text.__contains__
    is_joined = "_" in text or "-" in text
    return any(map(has, _KEY_MARKS)) or (is_joined and any(map(has, _JOINED_KEY_MARKS)))


def _is_unsure(url: str) -> bool:
    """Whether a password that is not encoded may reach beyond what parsers take for the user."""
    _, _, rest = url.partition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" not in rest[len(host) :]:
        return False
    _, colon, port = host.rpartition("]")[2].partition(":")
    return "@" in host or bool(colon and not port.isdecimal())


def _cut_query(url: str) -> str:
    if _is_unsure(url):
        return REDACTED
    address, mark, query = url.partition("?")
    scheme, _, rest = address.partition("://")
    authority, slash, path = rest.partition("/")
    host = authority.rpartition("@")[2]
    return f"{scheme}://{host}{slash}{path}{mark}{REDACTED if query else ''}"


def _redact_parameter(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    secret = bool(value) and (
        _SECRET_PARAMETER.fullmatch(name) is not None or _COS_SIGN.match(parameter) is not None
    )
    return f"{name}{equals}{REDACTED}" if secret else parameter


def _redact_value(value: JsonValue) -> JsonValue:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return redact_input(value)
    if isinstance(value, list):
        return [_redact_value(item) for item in value]
    return value
