"""Says what S3 refused and what to do, for each answer and for servers that can't be reached.

Messages hold error codes and our own words alone. The server's message, its headers and botocore's
text are left out: they can hold key ids, signed requests and tokens. They are only searched for
words that tell which setting is meant.
"""

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from botocore import exceptions as botocore_errors
from botocore.utils import parse_timestamp

from flux_pipeline.store_options import VARIABLES, StoreOptions

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Error = botocore_errors.ClientError | botocore_errors.BotoCoreError


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call went, and with which options."""

    bucket: str
    prefix: str
    client: "S3Client"
    options: StoreOptions

    @property
    def asked(self) -> str:
        """Scheme and host that the bucket is asked for at, without a user; and its path, if any.

        As botocore composes it: ``https://host/bucket`` or ``https://bucket.host``.
        """
        try:
            url = self.client.generate_presigned_url("head_bucket", Params={"Bucket": self.bucket})
        except botocore_errors.BotoCoreError:  # no credentials or no region: it says so itself
            url = self.client.meta.endpoint_url
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"

    @property
    def is_virtual(self) -> bool:
        """Whether the bucket is part of the host's name."""
        return urlsplit(self.asked).netloc.startswith(f"{self.bucket}.")

    @property
    def is_aws(self) -> bool:
        """Whether the server is Amazon's own, which takes both ways of addressing."""
        host = urlsplit(self.client.meta.endpoint_url).hostname or ""
        return ".amazonaws." in f".{host}."


def explain(error: Error, operation: str, place: Place) -> str:
    """Say what failed and what to do: ``AccessDenied on PutObject; needs s3:PutObject on …``."""
    if isinstance(error, botocore_errors.ClientError):
        code = code_of(error)
        hints = _hints(error, code, operation, place)
        return "; ".join((f"{code} on {operation}", *filter(None, hints)))
    hint = next((hint for kind, hint in _LOCAL_HINTS if isinstance(error, kind)), "")
    # Composing the bucket's address looks for credentials, which may be what failed.
    is_bucket_host = isinstance(error, _NO_HOST) and place.is_virtual
    address = place.asked if is_bucket_host else place.client.meta.endpoint_url
    host = urlsplit(address).netloc.rpartition("@")[2]
    hints = (hint, _addressing(place) if is_bucket_host else "")
    return "; ".join((f"{type(error).__name__} on {operation} at {host}", *filter(None, hints)))


def _hints(
    error: botocore_errors.ClientError, code: str, operation: str, place: Place
) -> tuple[str, ...]:
    """What to do, the likeliest first."""
    said = _words(error, place)
    if code in _STYLE_CODES or re.search(r"virtual.?host|path.?style", said):
        return (_addressing(place, is_certain=True),)
    if "kms:" in said and operation != "HeadObject":
        return ("needs kms:GenerateDataKey and kms:Decrypt on the key of FLUX_S3_SSE_KMS_KEY_ID",)
    if operation == "DeleteObject" and _LOCKED.search(f"{code.lower()} {said}"):
        return (_LOCKED_HINT,)
    is_style_in_doubt = code in _STYLE_IN_DOUBT and not place.is_aws
    addressing = _addressing(place) if is_style_in_doubt else ""
    if hint := _hint(error, code, operation, place):
        more = ""
        if code in _DENIED and operation == "PutObject":
            more = _policy(said, place)
        elif code in _DENIED and operation == "DeleteObject":
            more = f"or {_LOCKED_HINT}"
        return hint, addressing, more
    is_refused = operation == "PutObject" and status_of(error) in _REFUSED
    return addressing, _policy(said, place) if is_refused else ""


def _hint(error: botocore_errors.ClientError, code: str, operation: str, place: Place) -> str:
    if code in _DENIED:
        return f"needs {_rights(operation, place)}"
    if code in _REGION_CODES:
        region = _region(error)
        return (
            f"the bucket lies in {region}: set AWS_DEFAULT_REGION={region}"
            if region
            else "the bucket lies in another region: set AWS_DEFAULT_REGION"
        )
    if code == "RequestTimeTooSkewed":
        return f"this machine's clock is {_clock_difference(error)} off: set it"
    return _HINTS.get(code, "")


def _rights(operation: str, place: Place) -> str:
    rights = _ACTIONS.get(operation, operation)
    if operation == "PutObject":
        more = {"s3:PutObjectAcl": place.options.acl, "s3:PutObjectTagging": place.options.tags}
        rights = ", ".join([name for name, given in more.items() if given] + [rights])
    return rights.format(bucket=place.bucket, prefix=place.prefix)


def _policy(said: str, place: Place) -> str:
    """The settings that a bucket's policy, or a server that knows less, may refuse a write for."""
    meant = [names for words, names in _POLICY if re.search(words, said)]
    *others, last = meant or [names for _, names in _POLICY]
    named = f"{', '.join(others)} or {last}" if others else last
    sent = [variable for variable, name in _SENT if name in place.options.changed()]
    hint = f"where the bucket's policy or the server demands more, or less, of a write: set {named}"
    return f"{hint} (sent with {', '.join(sent)})" if sent else hint


def _addressing(place: Place, *, is_certain: bool = False) -> str:
    style, other = ("virtual-host", "path") if place.is_virtual else ("path", "virtual")
    wants = "this server" if is_certain else "where this server"
    asked = f"the bucket was asked for in {style} style ({place.asked})"
    if place.options.addressing == other:
        return (
            f"{asked}, because boto3 can't put the bucket before this host: give"
            " AWS_ENDPOINT_URL_S3 by name instead of a number, and a bucket without dots"
        )
    return f"{asked}: {wants} wants the other, set FLUX_S3_ADDRESSING={other}"


def _words(error: botocore_errors.ClientError, place: Place) -> str:
    """All that the server said, in lower case, to be searched and never shown."""
    said = " ".join(str(value) for value in {**error.response.get("Error", {})}.values()).lower()
    return said.replace(f"{place.bucket}/{place.prefix}".lower(), "").replace(place.bucket, "")


def _region(error: botocore_errors.ClientError) -> str:
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    named = {**error.response.get("Error", {})}.get("Region")
    return _plain(str(named or headers.get("x-amz-bucket-region", "")))


def _clock_difference(error: botocore_errors.ClientError) -> str:
    details = {**error.response.get("Error", {})}
    times = [str(details.get(name, "")) for name in ("RequestTime", "ServerTime")]
    try:
        ahead = parse_timestamp(times[0]) - parse_timestamp(times[1])
    except (TypeError, ValueError):
        return "more than 15 min"
    return f"{abs(ahead.total_seconds()) / 60:.0f} min"


def _plain(text: str) -> str:
    """Return a server's word without anything that could act or mislead where it is printed."""
    return re.sub(r"[^A-Za-z0-9._-]", "", text)[:64]


def status_of(error: botocore_errors.ClientError) -> int:
    """The HTTP status of an answer, 0 where it is not known."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(error: botocore_errors.ClientError) -> str:
    """S3's error code, or the HTTP status where the answer had no body."""
    code = str(error.response.get("Error", {}).get("Code", "")) or str(status_of(error))
    return _plain(code)


# What the credentials need, by operation.
_ACTIONS = {
    "PutObject": "s3:PutObject on arn:aws:s3:::{bucket}/{prefix}*",
    "GetObject": "s3:GetObject on arn:aws:s3:::{bucket}/{prefix}*",
    "HeadObject": "s3:GetObject on arn:aws:s3:::{bucket}/{prefix}* and s3:ListBucket on"
    " arn:aws:s3:::{bucket} (HEAD says no more: the credentials may also be wrong or expired)",
    "DeleteObject": "s3:DeleteObject on arn:aws:s3:::{bucket}/{prefix}*",
    "ListObjectsV2": "s3:ListBucket on arn:aws:s3:::{bucket}",
}

_CREDENTIALS = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_PROFILE"
_RENEW = "renew the credentials and run again: what was accepted is resumed"
_BUSY = "the store is busy after 5 tries: lower the concurrency and run again, nothing is lost"

_DENIED = frozenset({"AccessDenied", "403", "AllAccessDisabled"})

# What keeps an object from being deleted on AWS, Aliyun OSS (FileImmutable), MinIO and Google.
_LOCKED = re.compile(r"\bworm\b|retention|immutable|object.?lock|legal.?hold|under.?active.?hold")
_LOCKED_HINT = (
    "a lock or retention rule of the bucket keeps this object: nothing was removed; wait until it"
    " ends, or shorten the rule"
)

_REFUSED = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}
)

# By what the server says, the settings that are meant.
_POLICY = (
    (r"encrypt|\bsse\b|kms", "FLUX_S3_SSE (with FLUX_S3_SSE_KMS_KEY_ID)"),
    (r"storage.?class", "FLUX_S3_STORAGE_CLASS"),
    (r"checksum|content-?md5|crc32|sha256", "FLUX_S3_CHECKSUM"),
    (r"\bacls?\b|access.?control", "FLUX_S3_ACL"),
    (r"\btag|tagging", "FLUX_S3_TAGS"),
)
_SENT = [
    (variable, name) for variable, name in VARIABLES.items() if variable.startswith("FLUX_S3_")
]

# Aliyun OSS, Tencent COS and Volcengine TOS of a path; see their lists of error codes.
_STYLE_CODES = frozenset(
    {"SecondLevelDomainForbidden", "PathStyleDomainForbidden", "InvalidPathAccess"}
)

# What a server says that took the bucket for a part of the key, or the other way round.
_STYLE_IN_DOUBT = frozenset(
    {
        "NoSuchBucket",
        "InvalidBucketName",
        "PermanentRedirect",
        "TemporaryRedirect",
        "MethodNotAllowed",
        "InvalidURI",
        "301",
        "307",
        "400",
        "405",
    }
)

# By S3's error code.
_HINTS = {
    "NoSuchBucket": "create the bucket or correct its name",
    "InvalidStorageClass": "this server has no such class: correct FLUX_S3_STORAGE_CLASS",
    "AccessControlListNotSupported": "this bucket takes no ACL: unset FLUX_S3_ACL",
    "InvalidTag": "correct FLUX_S3_TAGS",
    "NoSuchKey": "there is no such object",
    "InvalidAccessKeyId": f"the store knows no such key id: {_CREDENTIALS}",
    "SignatureDoesNotMatch": f"the secret does not belong to the key id: {_CREDENTIALS}",
    "ExpiredToken": _RENEW,
    "ExpiredTokenException": _RENEW,
    "TokenRefreshRequired": _RENEW,
    "InvalidToken": f"the session token is wrong: {_CREDENTIALS} and AWS_SESSION_TOKEN",
    "SlowDown": _BUSY,
    "ServiceUnavailable": _BUSY,
    "503": _BUSY,
    "BadDigest": "the bytes were changed on their way: run again, and look at proxies in between",
    "XAmzContentSHA256Mismatch": "the bytes were changed on their way: run again",
    "EntityTooLarge": "too large for one PUT on this store",
    "QuotaExceeded": "the bucket is full: free some space or raise its quota",
}

# How a name of the form bucket.host fails where there is no such host, or no certificate for it.
_NO_HOST = (botocore_errors.ConnectionError, botocore_errors.SSLError)

# By botocore's class, the most specific ones first: where there was no answer from the server.
_LOCAL_HINTS = (
    (botocore_errors.NoCredentialsError, f"no credentials were found: {_CREDENTIALS}"),
    (
        botocore_errors.PartialCredentialsError,
        f"half of the credentials is missing: {_CREDENTIALS}",
    ),
    (botocore_errors.ProfileNotFound, "AWS_PROFILE names no profile of this machine"),
    (botocore_errors.SSOError, _RENEW),
    (botocore_errors.LoginError, _RENEW),
    (botocore_errors.CredentialRetrievalError, _RENEW),
    (botocore_errors.NoRegionError, "set AWS_DEFAULT_REGION"),
    (botocore_errors.SSLError, "TLS failed: name the server's CA in AWS_CA_BUNDLE"),
    (botocore_errors.ConnectTimeoutError, "no connection within 5 s: is AWS_ENDPOINT_URL right?"),
    (botocore_errors.ReadTimeoutError, "no answer within 30 s: run again, nothing is lost"),
    (
        botocore_errors.ConnectionError,
        "no connection: is the server up and AWS_ENDPOINT_URL right?",
    ),
    (botocore_errors.HTTPClientError, "the connection broke: run again, nothing is lost"),
)

_REGION_CODES = frozenset(
    {
        "301",
        "PermanentRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
    }
)
