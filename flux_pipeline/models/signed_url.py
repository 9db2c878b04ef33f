"""Compares addresses that are signed anew each time: a signature doesn't change the file behind it.

Each signer has a closed list of parameters, which are dropped only where its own marks stand in the
same query. Scheme, host, path, fragment and every other parameter, such as a version's id, a
conversion (``x-oss-process``) or a ``response-`` override, stay to the letter: two files never
become one.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from flux_pipeline.redaction import REDACTED, redact_url


class _Signer(NamedTuple):
    """A service that signs addresses; names of parameters are in lower case."""

    marks: Mapping[str, str]
    """Parameters that must all be there, each with a pattern of its whole value."""
    volatile: frozenset[str]
    """Parameters that say who may fetch, and until when; the marks are among them."""
    hosts: str = r".*"
    """A pattern of the hosts that it signs for."""


def comparable_url(url: str) -> str:
    """The address without its signature and other secrets: what counts in a fingerprint.

    An address that no known signer signed comes back as ``redact_url`` gives it.
    """
    if "?" not in url:
        return redact_url(url)
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return redact_url(url)
    pairs = [(parameter, *_name_and_value(parameter)) for parameter in parts.query.split("&")]
    values = {name: value for _, name, value in pairs}
    volatile = frozenset[str]().union(
        *(signer.volatile for signer in _SIGNERS if _has_signed(signer, values, host))
    )
    if not volatile:
        return redact_url(url)
    query = "&".join(given for given, name, _ in pairs if given and name not in volatile)
    without = SplitResult(parts.scheme, parts.netloc, parts.path, query, parts.fragment)
    return redact_url(urlunsplit(without))


def uncounted_file(url: str) -> str:
    """The name of a parameter that is taken for a secret and holds a file's name; else empty."""
    if "?" not in url:
        return ""
    for parameter in url.partition("?")[2].split("&"):
        name, value = _name_and_value(parameter)
        if _FILE.search(value) and _is_secret(parameter):
            return name
    return ""


def _is_secret(parameter: str) -> bool:
    return redact_url(f"https://example.com/?{parameter}").endswith(f"={REDACTED}")


def _name_and_value(parameter: str) -> tuple[str, str]:
    name, _, value = parameter.partition("=")
    return unquote(name).lower(), unquote(value)


def _has_signed(signer: _Signer, values: Mapping[str, str], host: str) -> bool:
    return all(
        name in values and re.fullmatch(pattern, values[name])
        for name, pattern in signer.marks.items()
    ) and bool(re.fullmatch(signer.hosts, host))


def _by_prefix(prefix: str, *names: str) -> frozenset[str]:
    return frozenset(f"{prefix}{name}" for name in names)


_FILE = re.compile(r"(?i)\.(?:png|jpe?g|webp|gif|avif|heic|tiff?|bmp|safetensors)\Z")
_ANY = r"(?s).+"
_SECONDS = r"[0-9]+"

_V4 = ("algorithm", "credential", "date", "expires", "signedheaders", "signature")
"""What Amazon's fourth version of signatures holds, and those that were modelled after it."""

_SIGNERS = (
    # Amazon S3 and what speaks its API (MinIO, R2, Ceph, B2): SigV4, then SigV2.
    _Signer(
        {"x-amz-algorithm": r"AWS4-.+", "x-amz-signature": _ANY},
        _by_prefix("x-amz-", *_V4, "security-token", "content-sha256", "region-set"),
    ),
    _Signer(
        {"awsaccesskeyid": _ANY, "signature": _ANY, "expires": _SECONDS},
        frozenset({"awsaccesskeyid", "signature", "expires", "x-amz-security-token"}),
    ),
    # Amazon CloudFront: a canned policy has Expires, a custom one Policy.
    _Signer(
        {"key-pair-id": _ANY, "signature": _ANY},
        frozenset({"key-pair-id", "signature", "expires", "policy", "hash-algorithm"}),
    ),
    # Azure Storage: shared access signatures of an account, a service or a user's delegation.
    _Signer(
        {"sig": _ANY, "sv": r"[0-9]{4}-[0-9]{2}-[0-9]{2}"},
        frozenset(
            [
                "sig",
                "sv",
                "ss",
                "srt",
                "sr",
                "sp",
                "st",
                "se",
                "spr",
                "sip",
                "si",
                "sdd",
                "ses",
                "scid",
                "skoid",
                "sktid",
                "skt",
                "ske",
                "sks",
                "skv",
                "skdutid",
                "sduoid",
                "saoid",
                "suoid",
            ]
        ),
    ),
    # Google Cloud Storage, V4 and V2, then Cloud CDN.
    _Signer(
        {"x-goog-algorithm": r"GOOG4-.+", "x-goog-signature": _ANY},
        _by_prefix("x-goog-", *_V4, "security-token", "content-sha256"),
    ),
    _Signer(
        {"googleaccessid": _ANY, "signature": _ANY, "expires": _SECONDS},
        frozenset({"googleaccessid", "signature", "expires"}),
    ),
    _Signer(
        {"keyname": _ANY, "signature": _ANY, "expires": _SECONDS},
        frozenset({"keyname", "signature", "expires", "urlprefix"}),
    ),
    # Aliyun OSS: V1, then V2 and V4.
    _Signer(
        {"ossaccesskeyid": _ANY, "signature": _ANY, "expires": _SECONDS},
        frozenset({"ossaccesskeyid", "signature", "expires", "security-token"}),
    ),
    _Signer(
        {"x-oss-signature-version": r"OSS[24].*", "x-oss-signature": _ANY},
        _by_prefix(
            "x-oss-",
            "signature-version",
            "signature",
            "credential",
            "access-key-id",
            "date",
            "expires",
            "security-token",
            "additional-headers",
        ),
    ),
    # Tencent COS: a parameter each, or all of them within sign.
    _Signer(
        {"q-sign-algorithm": _ANY, "q-signature": _ANY},
        frozenset({"x-cos-security-token"})
        | _by_prefix(
            "q-", "sign-algorithm", "ak", "sign-time", "key-time", "header-list", "signature"
        )
        | {"q-url-param-list"},
    ),
    _Signer(
        {"sign": rf"(?s)q-sign-algorithm=.+|{REDACTED}"},
        frozenset({"sign", "x-cos-security-token"}),
    ),
    # Huawei OBS (V2; its V4 is Amazon's) and Volcengine TOS.
    _Signer(
        {"accesskeyid": _ANY, "signature": _ANY, "expires": _SECONDS},
        frozenset({"accesskeyid", "signature", "expires", "x-obs-security-token"}),
    ),
    _Signer(
        {"x-tos-algorithm": r"TOS4-.+", "x-tos-signature": _ANY},
        _by_prefix("x-tos-", *_V4, "security-token", "content-sha256", "policy"),
    ),
    # Qiniu Kodo: the token is a key's name, a colon and 20 bytes in base64.
    _Signer(
        {"e": _SECONDS, "token": rf"[A-Za-z0-9_-]+:[A-Za-z0-9_-]{{27}}=|{REDACTED}"},
        frozenset({"e", "token"}),
    ),
    # Discord signs the address of every attachment for a day.
    _Signer(
        {"ex": r"[0-9a-f]+", "is": r"[0-9a-f]+", "hm": r"[0-9a-f]+"},
        frozenset({"ex", "is", "hm"}),
        hosts=r"(?:cdn|media)\.discordapp\.(?:com|net)",
    ),
)
