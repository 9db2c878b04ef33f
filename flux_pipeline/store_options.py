"""Options of a store: who writes to it, and what the policy of a bucket demands of every write.

The settings check the environment with the same rules, so that a mistake is found before anything
is sent. A folder has no use for any of them.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

ONE, MANY = "one", "many"
VARIABLES: Mapping[str, str] = {
    "FLUX_STORE_WRITERS": "writers",
    "FLUX_S3_ADDRESSING": "addressing",
    "FLUX_S3_SSE": "sse",
    "FLUX_S3_SSE_KMS_KEY_ID": "sse_kms_key_id",
    "FLUX_S3_STORAGE_CLASS": "storage_class",
    "FLUX_S3_CHECKSUM": "checksum",
    "FLUX_S3_ACL": "acl",
    "FLUX_S3_TAGS": "tags",
    "FLUX_S3_REQUEST_PAYER": "request_payer",
}
"""By environment variable the option that it gives."""
_SHUT = frozenset({"GLACIER", "DEEP_ARCHIVE", "ARCHIVE", "COLD_ARCHIVE", "DEEP_COLD_ARCHIVE"})
"""Storage classes whose objects must be restored before they can be read."""
_MAX_TAGS = 10
_TAG = re.compile(r"[A-Za-z0-9 +\-._:/@]{1,128}=[A-Za-z0-9 +\-._:/@]{0,256}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """How a store is written. Those from ``addressing`` on count for ``s3:`` alone.

    Raises:
        ValueError: With every option that is wrong, and what is allowed there.
    """

    writers: str = MANY
    """``one``: no second ledger writes to the store, which then needs no conditional writes."""
    addressing: str = "auto"
    """``path`` (host/bucket), ``virtual`` (bucket.host), or ``auto``: as boto3 is configured."""
    sse: str = ""
    """``AES256``, ``aws:kms`` or ``aws:kms:dsse``; empty: as the bucket is configured."""
    sse_kms_key_id: str = ""
    """Id or ARN of a KMS key; empty: the one of the bucket."""
    storage_class: str = ""
    """Such as ``STANDARD_IA``, but none that must be restored; empty: the bucket's."""
    checksum: str = "SHA256"
    """Of the bytes, sent as a header: SHA256, SHA1, CRC32, MD5 (``Content-MD5``) or ``none``."""
    acl: str = ""
    """A canned ACL, such as ``bucket-owner-full-control``."""
    tags: str = ""
    """``name=value`` pairs with commas between them, at most 10."""
    request_payer: str = ""
    """``requester``: who asks pays for it, as some buckets demand."""

    def __post_init__(self) -> None:
        mistakes = [
            f"{variable}: {mistake}"
            for variable, name in VARIABLES.items()
            if (text := getattr(self, name)) and (mistake := find_option_mistake(name, text))
        ]
        if mistake := find_key_without_kms(self.sse, self.sse_kms_key_id):
            mistakes.append(f"FLUX_S3_SSE_KMS_KEY_ID: {mistake}")
        if mistakes:
            raise ValueError("; ".join(mistakes))

    @property
    def tag_pairs(self) -> list[tuple[str, str]]:
        """The tags, as names and values."""
        return [
            (name, value) for name, _, value in (tag.partition("=") for tag in _split(self.tags))
        ]

    def changed(self) -> dict[str, str]:
        """The options that are not the default."""
        values = {each.name: (getattr(self, each.name), each.default) for each in fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}


def find_option_mistake(name: str, text: str) -> str:
    """Why a text, not empty, is none for this option; empty where it is."""
    return _RULES[name](text)


def find_key_without_kms(sse: str, sse_kms_key_id: str) -> str:
    """Why a KMS key goes with no such encryption; empty where it does, or where there is none."""
    if not sse_kms_key_id or sse.startswith("aws:kms"):
        return ""
    return "is used with FLUX_S3_SSE=aws:kms alone: set that too"


def _one_of(*words: str) -> Callable[[str], str]:
    def find_mistake(text: str) -> str:
        return "" if text in words else f"{text!r} is not allowed ({', '.join(words)})"

    return find_mistake


def _find_key_id_mistake(text: str) -> str:
    is_word = text.isascii() and text.isprintable() and " " not in text
    return "" if is_word else "is no id, alias or ARN of a key"


def _find_storage_class_mistake(text: str) -> str:
    if text in _SHUT:
        return f"{text} must be restored before it can be read: take another, such as GLACIER_IR"
    is_name = re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text)
    return "" if is_name else "is no storage class such as STANDARD_IA"


def _find_tags_mistake(text: str) -> str:
    tags = _split(text)
    names = [tag.partition("=")[0] for tag in tags]
    if any(_TAG.fullmatch(tag) is None for tag in tags):
        return "is not of the form name=value,name=value, of letters, digits, blanks and '+-._:/@'"
    if len(tags) > _MAX_TAGS:
        return f"holds {len(tags)} tags, and an object has {_MAX_TAGS} at most"
    return "" if len(names) == len(set(names)) else "gives one name twice"


def _split(text: str) -> list[str]:
    return [tag.strip() for tag in text.split(",") if tag.strip()]


_RULES: Mapping[str, Callable[[str], str]] = {
    "writers": _one_of(MANY, ONE),
    "addressing": _one_of("auto", "path", "virtual"),
    "sse": _one_of("AES256", "aws:kms", "aws:kms:dsse"),
    "sse_kms_key_id": _find_key_id_mistake,
    "storage_class": _find_storage_class_mistake,
    "checksum": _one_of("SHA256", "SHA1", "CRC32", "MD5", "none"),
    "acl": _one_of(
        "private",
        "public-read",
        "authenticated-read",
        "bucket-owner-read",
        "bucket-owner-full-control",
    ),
    "tags": _find_tags_mistake,
    "request_payer": _one_of("requester"),
}

NO_OPTIONS = StoreOptions()
"""Any number of writers, and a bucket that demands nothing."""
