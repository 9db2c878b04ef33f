"""What S3 refuses, said with the object, the operation and what to do.

Only error codes and our own words are repeated. The server's message, its headers and botocore's
text stay out: they can hold key ids, signed requests and tokens.
"""

import re
from urllib.parse import urlsplit

from botocore import exceptions as botocore_errors
from botocore.utils import parse_timestamp

_ACTIONS = {
    "PutObject": "s3:PutObject on arn:aws:s3:::{bucket}/{prefix}*",
    "GetObject": "s3:GetObject on arn:aws:s3:::{bucket}/{prefix}*",
    "HeadObject": "s3:GetObject on arn:aws:s3:::{bucket}/{prefix}* and s3:ListBucket on"
    " arn:aws:s3:::{bucket} (HEAD says no more: the credentials may also be wrong or expired)",
    "ListObjectsV2": "s3:ListBucket on arn:aws:s3:::{bucket}",
}
_CREDENTIALS = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_PROFILE"
_RENEW = "renew the credentials and run again: what was accepted is resumed"
_BUSY = "the store is busy after 5 tries: lower the concurrency and run again, nothing is lost"
_HINTS = {
    "NoSuchBucket": "create the bucket or correct its name",
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
_LOCAL = (
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


def status_of(error: botocore_errors.ClientError) -> int:
    """The HTTP status of an answer, 0 where it is not known."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(error: botocore_errors.ClientError) -> str:
    """S3's word for the error, or the HTTP status where the answer had no body."""
    code = str(error.response.get("Error", {}).get("Code", "")) or str(status_of(error))
    return _plain(code)


def describe(
    error: botocore_errors.ClientError | botocore_errors.BotoCoreError,
    operation: str,
    *,
    bucket: str,
    prefix: str,
    endpoint: str,
) -> str:
    """``AccessDenied on PutObject; needs s3:PutObject on …``, without the place."""
    if isinstance(error, botocore_errors.ClientError):
        code = code_of(error)
        hint = _hint(error, code, operation).format(bucket=bucket, prefix=prefix)
        return f"{code} on {operation}" + (f"; {hint}" if hint else "")
    hint = next((hint for kind, hint in _LOCAL if isinstance(error, kind)), "")
    host = urlsplit(endpoint).netloc.rpartition("@")[2]
    return f"{type(error).__name__} on {operation} at {host}" + (f"; {hint}" if hint else "")


def _hint(error: botocore_errors.ClientError, code: str, operation: str) -> str:
    if code in {"AccessDenied", "403", "AllAccessDisabled"}:
        return f"needs {_ACTIONS.get(operation, operation)}"
    if code in _REGION_CODES:
        region = _region(error)
        return (
            f"the bucket lies in {region}: set AWS_DEFAULT_REGION={region}"
            if region
            else "the bucket lies in another region: set AWS_DEFAULT_REGION"
        )
    if code == "RequestTimeTooSkewed":
        return f"this machine's clock is {_skew(error)} off: set it"
    return _HINTS.get(code, "")


def _region(error: botocore_errors.ClientError) -> str:
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    named = {**error.response.get("Error", {})}.get("Region")
    return _plain(str(named or headers.get("x-amz-bucket-region", "")))


def _skew(error: botocore_errors.ClientError) -> str:
    said = {**error.response.get("Error", {})}
    times = [str(said.get(name, "")) for name in ("RequestTime", "ServerTime")]
    try:
        ahead = parse_timestamp(times[0]) - parse_timestamp(times[1])
    except (TypeError, ValueError):
        return "more than 15 min"
    return f"{abs(ahead.total_seconds()) / 60:.0f} min"


def _plain(text: str) -> str:
    """A server's word, harmless wherever it is printed."""
    return re.sub(r"[^A-Za-z0-9._-]", "", text)[:64]
