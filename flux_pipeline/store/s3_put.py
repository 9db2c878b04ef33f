"""Sends PUTs to S3 as boto3 sent the first one, without composing each anew: a third of its CPU.

boto3 decides everything once: endpoint, style of the address, region, options and proxy. Its first
PUT that succeeded is the pattern of the others, which are signed here (Signature Version 4) with
the credentials that boto3 finds and renews, and go over a connection of botocore's own HTTP
session, or where none is open through that session. They don't wait for the server's consent to
each body (``Expect: 100-continue``), as boto3's do: a second turn for 10 KB to 2 MB. Whatever ends
with neither a plain 200 nor a condition that was not met is sent again by boto3, which tries
again, follows redirects and says what is wrong.
"""

import hashlib
import hmac
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias
from urllib.parse import quote, urlsplit

from botocore import exceptions as botocore_errors
from botocore.awsrequest import AWSPreparedRequest

from flux_pipeline.store.s3_connections import OpenConnections

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import PutObjectRequestTypeDef

_ALGORITHM = "AWS4-HMAC-SHA256"
_EVENT = "before-send.s3.PutObject"
_HEADERS = {
    "ContentType": "content-type",
    "IfNoneMatch": "if-none-match",
    "IfMatch": "if-match",
    "ContentMD5": "content-md5",
    "ChecksumSHA256": "x-amz-checksum-sha256",
    "ChecksumSHA1": "x-amz-checksum-sha1",
    "ChecksumCRC32": "x-amz-checksum-crc32",
}
"""Headers that differ from PUT to PUT, by boto3's names."""
_VARIABLE = frozenset({*_HEADERS, "Bucket", "Key", "Body", "Metadata"})
"""What differs from PUT to PUT; PUTs that differ in anything else have patterns of their own."""
_COMPOSED = frozenset(
    {
        *_HEADERS.values(),
        "authorization",
        "content-length",
        "expect",
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-security-token",
        "amz-sdk-invocation-id",
        "amz-sdk-request",
    }
)
"""Headers of the pattern that are left out: they are composed here, name a try of boto3's, or ask
whether the body may be sent."""
_META = "x-amz-meta-"
_UNSIGNED = "user-agent"
"""A header that boto3 does not sign either, because proxies change it."""


_UNMET = (HTTPStatus.PRECONDITION_FAILED, HTTPStatus.CONFLICT)
"""Answers to a condition, which are no failures and which boto3 does not try again either."""
_Options: TypeAlias = frozenset[tuple[str, object]]


class HttpReply(Protocol):
    """The part of a reply that is read."""

    @property
    def status_code(self) -> int:
        """As HTTP has it."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """By their names in lower case."""
        ...


class RepeatedPut:
    """The PUTs of one client and bucket. Thread-safe."""

    def __init__(self, client: "S3Client") -> None:
        self._client = client
        # botocore has no public names for a client's credentials, which it renews, and for the
        # session with its connections, proxy and authorities of TLS. Should these ones go, boto3
        # sends every PUT.
        session = getattr(getattr(client, "_endpoint", None), "http_session", None)
        self._send: Callable[[AWSPreparedRequest], HttpReply] | None = getattr(
            session, "send", None
        )
        self._open = OpenConnections(session)
        self._credentials: Any = getattr(
            getattr(client, "_request_signer", None), "_credentials", None
        )
        self._patterns: dict[_Options, _Pattern] = {}
        self._seen = threading.local()
        self._watching = threading.Lock()
        self._is_watching = False

    def put(self, request: "PutObjectRequestTypeDef", sha256: str) -> Mapping[str, str]:
        """Write an object; return the headers of the reply. ``sha256`` is that of the body, in hex.

        Raises what boto3 raises.
        """
        options = frozenset(
            (name, value) for name, value in request.items() if name not in _VARIABLE
        )
        pattern = self._patterns.get(options)
        headers = pattern and self._repeat(pattern, request, sha256)
        if headers:
            return headers
        self._watch()
        try:
            answer = self._client.put_object(**request)
        finally:
            seen = self._seen.__dict__.pop("last", None)
        found = _pattern_from(seen, request["Key"])
        if found:
            self._patterns[options] = found
        return answer["ResponseMetadata"]["HTTPHeaders"]

    def _watch(self) -> None:
        """Have botocore show what it sends."""
        with self._watching:
            if not self._is_watching:
                self._client.meta.events.register(_EVENT, self._see)
                self._is_watching = True

    def _see(self, request: AWSPreparedRequest, **_: object) -> None:
        """Remember what boto3 is about to send in this thread."""
        self._seen.last = request

    def _repeat(
        self, pattern: "_Pattern", request: "PutObjectRequestTypeDef", sha256: str
    ) -> Mapping[str, str] | None:
        """The reply's headers; None where it is no plain 200, or there was none."""
        if self._send is None or self._credentials is None:
            return None
        try:
            keys = self._credentials.get_frozen_credentials()
            prepared = pattern.prepare(request, sha256, keys, datetime.now(UTC))
            reply: HttpReply = self._open.send(prepared) or self._send(prepared)
        except (botocore_errors.BotoCoreError, OSError):
            return None
        is_conditional = "IfNoneMatch" in request or "IfMatch" in request
        if is_conditional and reply.status_code in _UNMET:
            raise _unmet(reply.status_code)
        return reply.headers if reply.status_code == HTTPStatus.OK else None


@dataclass(frozen=True, slots=True)
class _Pattern:
    """What all PUTs of one bucket have in common."""

    base: str
    """The URL without the key."""
    host: str
    """As it is signed: without a port that its scheme has anyway."""
    path: str
    """The URL's path without the key."""
    region: str
    headers: Mapping[str, str]
    """By their names in lower case."""

    def prepare(
        self, request: "PutObjectRequestTypeDef", sha256: str, keys: Any, now: datetime
    ) -> AWSPreparedRequest:
        """Compose and sign one PUT."""
        given: Mapping[str, Any] = {**request}
        body: bytes = given["Body"]
        key = _encoded(given["Key"])
        moment = now.strftime("%Y%m%dT%H%M%SZ")
        # A plain dictionary: botocore's own kind of headers costs more than the signature.
        headers: Any = {
            **self.headers,
            **{name: given[ours] for ours, name in _HEADERS.items() if ours in given},
            **{f"{_META}{name}": value for name, value in given.get("Metadata", {}).items()},
            "x-amz-content-sha256": sha256,
            "x-amz-date": moment,
        }
        if keys.token:
            headers["x-amz-security-token"] = keys.token
        signed = {name: " ".join(value.split()) for name, value in headers.items()}
        signed["host"] = self.host
        signed.pop(_UNSIGNED, None)
        names = sorted(signed)
        lines = [f"{name}:{signed[name]}" for name in names]
        canonical = ["PUT", self.path + key, "", *lines, "", ";".join(names), sha256]
        scope = f"{moment[:8]}/{self.region}/s3/aws4_request"
        digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
        signing_key = _signing_key(keys.secret_key, moment[:8], self.region)
        signature = _sign(signing_key, f"{_ALGORITHM}\n{moment}\n{scope}\n{digest}").hex()
        headers["authorization"] = (
            f"{_ALGORITHM} Credential={keys.access_key}/{scope}, SignedHeaders={';'.join(names)},"
            f" Signature={signature}"
        )
        headers["content-length"] = str(len(body))
        return AWSPreparedRequest("PUT", self.base + key, headers, body, stream_output=False)


def _pattern_from(seen: AWSPreparedRequest | None, key: str) -> _Pattern | None:
    """The pattern that a PUT of boto3's gives; None where it is signed or addressed otherwise."""
    if seen is None:
        return None
    sent = {name.lower(): _text(value) for name, value in seen.headers.items()}
    algorithm, _, rest = sent.get("authorization", "").partition(" ")
    scope = rest.partition(",")[0].split("/")
    parts = urlsplit(seen.url)
    end = _encoded(key)
    # Credential=<key>/<day>/<region>/s3/aws4_request
    if algorithm != _ALGORITHM or scope[-2:] != ["s3", "aws4_request"] or parts.query:
        return None
    if not seen.url.endswith(end) or "@" in parts.netloc:
        return None
    default = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
    return _Pattern(
        base=seen.url.removesuffix(end),
        host=parts.netloc.removesuffix(default),
        path=parts.path.removesuffix(end),
        region=scope[-3],
        headers={
            name: value
            for name, value in sent.items()
            if name not in _COMPOSED and not name.startswith(_META)
        },
    )


def _unmet(status: int) -> botocore_errors.ClientError:
    """The error that boto3 raises for a condition that was not met, as far as it is read."""
    response: Any = {
        "Error": {"Code": str(status)},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return botocore_errors.ClientError(response, "PutObject")


def _encoded(key: str) -> str:
    """The key as a part of a URL; where boto3 writes it otherwise, its PUT gives no pattern."""
    return quote(key, safe="/~")


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


@lru_cache(maxsize=8)
def _signing_key(secret_key: str, day: str, region: str) -> bytes:
    """The key of one day: four hashes that each request would make again."""
    key = _sign(f"AWS4{secret_key}".encode(), day)
    for part in (region, "s3", "aws4_request"):
        key = _sign(key, part)
    return key


def _sign(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
