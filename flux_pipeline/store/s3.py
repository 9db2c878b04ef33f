"""A store in a bucket of S3, or of a server that speaks its protocol.

The only module that imports boto3 (0.2 s of CPU), itself imported only when a bucket is opened. It
asks for no more than most servers can do: PUT, HEAD, GET and a listing; what a bucket's policy
demands besides is added to every PUT (``StoreOptions``). The SHA-256 of the bytes is sent twice: as
a header that the server checks, and as metadata of our own, because not every server gives the
header back. Not every server checks it either, so the reply to a PUT is compared with the bytes
(``ConfirmedPuts``).
"""

import base64
import hashlib
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlencode

import boto3
import botocore.session
from botocore import exceptions as botocore_errors
from botocore.config import Config
from botocore.utils import parse_timestamp

from flux_pipeline.endpoint import find_user_mistake
from flux_pipeline.errors import StoreError
from flux_pipeline.store.base import (
    PIECE,
    SHA256_NAME,
    Body,
    StoredObject,
    check_key,
    check_metadata,
    check_prefix,
    is_key,
    md5_of,
    pieces_of,
    sha1_of,
    sha256_of,
    size_of,
)
from flux_pipeline.store.s3_descriptions import service_descriptions
from flux_pipeline.store.s3_errors import Place, code_of, explain, status_of
from flux_pipeline.store.s3_put import RepeatedPut
from flux_pipeline.store_options import NO_OPTIONS, ONE, StoreOptions

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import PutObjectRequestTypeDef

_REQUEST = "request-sha256"
"""The metadata name by which two writes of one request are known."""
_UNCONDITIONAL = (
    "If-None-Match on PutObject, so that two workers could overwrite each other's object: update"
    " it, use another server, or set FLUX_STORE_WRITERS=one where no second ledger writes to this"
    " store"
)
_PROBE = ".probe"
"""Its key begins with a dot, so that no listing shows it."""
_TRIES = 6
"""Of a conditional PUT that others' writes of the same key get in the way of."""
_LOCKS = 64
_CUT_TRIES = 3
_CUT = (
    botocore_errors.IncompleteReadError,
    botocore_errors.ReadTimeoutError,
    botocore_errors.ResponseStreamingError,
)
"""A body that was cut: boto3 repeats a request that failed, but not this."""
_LOOKS = 4
"""HEADs after a PUT before it is believed that nothing is there: some servers show it late."""
_FIRST_LOOKED_AT = 4
_ONE_IN = 32
"""The first PUTs of a process, and then one in so many, are looked at although the reply is right:
a server may take the ETag from what it received, and keep less."""
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_PROBE_EVERY = 64
"""Conditional writes of this process between two looks whether conditions still hold."""


class S3Store:
    """A store in one bucket, below one prefix.

    ``put_new`` is safe against any number of writers where the server honours ``If-None-Match: *``.
    Whether it does is tried once, with the fixed key ``.probe``, which is never deleted. Where it
    does not, ``check`` raises, unless ``require_conditions`` is False: ``put_new`` then asks with
    HEAD first, and this process writes a key only once at a time.

    The trap: without conditions two *processes* that put the same new key within milliseconds can
    overwrite each other. Keys that derive from the request, and claims in the ledger, prevent that.
    A server that begins to ignore them is noticed within ``_PROBE_EVERY`` writes, by the probe.
    """

    def __init__(
        self,
        bucket: "Bucket",
        *,
        require_conditions: bool = True,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bucket = bucket
        self._require_conditions = require_conditions
        self._sleep = sleep
        self._honours: bool | None = None
        self._refuses = False
        """Whether the server answers a condition with an error, instead of passing it over."""
        self._probing = threading.Lock()
        self._conditional_writes = 0
        self._has_stopped = False
        """Whether the server honoured conditions when this process began, and does no more."""
        self._puts = ConfirmedPuts(bucket, sleep)
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    @property
    def uri(self) -> str:
        """``s3://bucket/prefix``, without a slash at the end."""
        return self._bucket.uri("").rstrip("/")

    def check(self) -> None:
        """List one key, and put ``.probe`` under a condition. Raises StoreError."""
        # A listing and not HEAD: the answer to HEAD has no body that says what is wrong.
        next(self._bucket.list("", page=1), None)
        if not self._honours_conditions() and self._require_conditions:
            answers = "refuses" if self._refuses else "ignores"
            raise StoreError(f"{self.uri}: this server {answers} {_UNCONDITIONAL}")

    def put_new(
        self,
        key: str,
        body: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        sha256: str = "",
    ) -> tuple[StoredObject, bool]:
        """Write ``body`` if nothing lies under ``key``; return the object and whether it was new.

        A write whose answer was lost, and that was repeated, counts as not new. An object of the
        same request whose bytes are not those that were written is replaced. Raises StoreError.
        """
        check_key(key)
        check_metadata(content_type, metadata)
        described = self._bucket.describe(key, body, content_type, metadata, sha256)
        if not self._honours_conditions():
            if self._has_stopped and self._require_conditions:
                raise StoreError(f"{self.uri}: this server has begun to ignore {_UNCONDITIONAL}")
            return self._put_after_head(described, body)
        for attempt in range(_TRIES):
            answer, reply = self._bucket.put_if_absent(described, body)
            if answer is PutAnswer.WRITTEN:
                self._puts.confirm(described, body, reply)
                self._probe_again()
                return described, True
            if existing := self._bucket.head(key):
                return self._keep_or_replace(existing, described, body)
            self._sleep(0.05 * 2**attempt)
        raise StoreError(
            f"{self._bucket.uri(key)}: ConditionalRequestConflict on PutObject, {_TRIES} times;"
            " another writer is busy there, run again"
        )

    def put(self, key: str, body: bytes, *, content_type: str) -> StoredObject:
        """Write ``body``, replacing at once and whole what lies there. Raises StoreError."""
        check_key(key)
        check_metadata(content_type, {})
        described = self._bucket.describe(key, body, content_type, {})
        self._puts.confirm(described, body, self._bucket.put(described, body))
        return described

    def head(self, key: str) -> StoredObject | None:
        """What lies under ``key``, or None; also None where the bucket is missing.

        Raises StoreError.
        """
        check_key(key)
        return self._bucket.head(key)

    def get(self, key: str) -> bytes:
        """The bytes under ``key``, checked against the checksum that they were written with.

        Raises StoreError, also where there are none.
        """
        check_key(key)
        body, written = self._bucket.get(key)
        if written and written != (found := hashlib.sha256(body).hexdigest()):
            raise StoreError(
                f"{self._bucket.uri(key)}: damaged: its bytes have sha256 {found} and were written"
                f" with {written}"
            )
        return body

    def presigned(self, key: str, seconds: int) -> str:
        """An address under which anybody can read an object for a while; a secret until then.

        Signed here, without a call: whether the object is there, or its endpoint can be reached
        from elsewhere, is not looked at. Raises StoreError where there are no credentials.
        """
        check_key(key)
        return self._bucket.presigned(key, seconds)

    def delete(self, key: str) -> None:
        """Remove what lies under ``key``; does nothing where there is nothing.

        Raises StoreError, also where a lock or a retention rule of the bucket keeps it.
        """
        check_key(key)
        self._bucket.delete(key)

    def list(self, prefix: str = "") -> Iterator[str]:
        """The keys that start with ``prefix``, in byte order; what is no key is left out.

        Raises StoreError.
        """
        check_prefix(prefix)
        return self._bucket.list(prefix)

    def _put_after_head(self, described: StoredObject, body: bytes) -> tuple[StoredObject, bool]:
        """``put_new`` for a server without conditions: what lies there in the end is returned."""
        key = described.key
        with self._locks[zlib.crc32(key.encode()) % _LOCKS]:
            if existing := self._bucket.head(key):
                return self._keep_or_replace(existing, described, body)
            self._puts.confirm(described, body, self._bucket.put(described, body))
            found = self._bucket.head(key) or described
            return found, found == described

    def _keep_or_replace(
        self, existing: StoredObject, described: StoredObject, body: bytes
    ) -> tuple[StoredObject, bool]:
        """Keep what lies there, unless it is a broken write of the same request."""
        if existing.sha256 == described.sha256 and existing.size == described.size:
            return existing, False
        request = existing.metadata.get(_REQUEST)
        if request is None or request != described.metadata.get(_REQUEST):
            return existing, False
        if self._is_whole(existing):
            return existing, False
        self._puts.confirm(described, body, self._bucket.put(described, body))
        return described, True

    def _is_whole(self, stored: StoredObject) -> bool:
        """Whether an object's bytes are those that its own checksum names, if it has one."""
        body, written = self._bucket.get(stored.key)
        return not written or written == hashlib.sha256(body).hexdigest()

    def _honours_conditions(self) -> bool:
        with self._probing:
            if self._honours is None:
                self._honours = self._probe() or self._probe()
            return self._honours

    def _probe_again(self) -> None:
        """Look from time to time whether the server still honours conditions."""
        with self._probing:
            self._conditional_writes += 1
            if self._conditional_writes % _PROBE_EVERY == 0:
                self._honours = self._probe() or self._probe()
                self._has_stopped = not self._honours

    def _probe(self) -> bool:
        """Whether a condition was seen to hold: at the first try only if the key is there.

        So it is tried twice: the first PUT may be the one that writes the key. What is refused with
        a condition and taken without is refused for the condition.
        """
        probe = self._bucket.describe(_PROBE, b"", "text/plain", {})
        try:
            answer, _ = self._bucket.put_if_absent(probe, b"")
        except PutRefused:
            self._bucket.put(probe, b"")
            self._refuses = True
            return False
        return answer in (PutAnswer.TAKEN, PutAnswer.BUSY)


class ConfirmedPuts:
    """Makes sure that a server keeps what it was sent, by its replies and by looking at it.

    Not noticed, and left to ``verify --deep``: other bytes of the right size, where the server's
    ETag is no MD5 and it returns no checksum, or where it lies in either. Thread-safe.
    """

    def __init__(self, bucket: "Bucket", sleep: Callable[[float], None] = time.sleep) -> None:
        self._bucket = bucket
        self._sleep = sleep
        self._writes = 0
        self._reads_back = True
        """Until one object was read back whole, where the replies to PUTs prove nothing."""

    def confirm(
        self,
        described: StoredObject,
        body: Body,
        reply: "PutReply",
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> None:
        """Make sure that the server keeps what was just sent; send it once more where it doesn't.

        ``headers`` as for ``Bucket.put``.

        Raises:
            StoreError: It keeps other bytes the second time too.
        """
        wrong = self._find_wrong(described, body, reply)
        if wrong:
            wrong = self._find_wrong(described, body, self._bucket.put(described, body, headers))
        if wrong:
            raise StoreError(
                f"{self._bucket.uri(described.key)}: this server keeps other bytes than it was sent"
                f" ({wrong}), and answers as if all were well: look at its disk and at what lies"
                " between, or use another one; what was fetched is stored again by the next run"
            )

    def _find_wrong(self, described: StoredObject, body: Body, reply: "PutReply") -> str:
        """What shows that other bytes are kept; empty where nothing does."""
        proven = reply.proves(body)
        if proven is False:
            return "another checksum"
        self._writes += 1
        is_looked_at = self._writes <= _FIRST_LOOKED_AT or self._writes % _ONE_IN == 0
        if proven and not is_looked_at:
            return ""
        size = self._size_of(described)
        if size != described.size:
            return f"{size} bytes of {described.size}"
        if proven or not self._reads_back:
            return ""
        kept, written = self._bucket.get(described.key)
        is_other = hashlib.sha256(kept).hexdigest() != described.sha256
        if is_other and written in {"", described.sha256}:
            return "the same number of bytes, but others"
        self._reads_back = False  # its replies prove nothing, and it is right all the same
        return ""

    def _size_of(self, described: StoredObject) -> int:
        """The size that the server shows, in bytes; 0 where it shows no such object.

        An object of another checksum is another writer's, who came after us: it proves nothing.
        """
        for look in range(_LOOKS):
            if found := self._bucket.head(described.key):
                is_ours = found.sha256 in {"", described.sha256}
                return found.size if is_ours else described.size
            self._sleep(0.05 * 2**look)
        return 0


class PutRefused(StoreError):
    """Raised where a server answers a PUT as one that it can't do, whatever the credentials."""


class PutAnswer(Enum):
    """How a server answered a PUT that may write only where nothing lies."""

    WRITTEN = "written"
    TAKEN = "taken"
    """An object lies under the key already."""
    BUSY = "busy"
    """Another writer, or a delete, was at work on the key: ask again."""


@dataclass(frozen=True, slots=True)
class PutReply:
    """What the reply to a PUT says of the object."""

    etag: str = ""
    """The MD5 of the bytes on most servers, without encryption and in one part; else anything."""
    checksum: str = ""
    """Of the kind that was sent, base 64; empty where the server gives none back."""
    sent: str = ""

    def proves(self, body: Body) -> bool | None:
        """Whether these very bytes are kept, as far as the reply says; None where it doesn't."""
        if self.checksum:
            return self.checksum == self.sent
        # An ETag of another form says nothing, and one of an MD5's form may be none all the same,
        # where the server encrypts.
        return True if self.etag == md5_of(body).hex() else None


_ANSWERS: dict[int, PutAnswer] = {
    HTTPStatus.PRECONDITION_FAILED: PutAnswer.TAKEN,
    HTTPStatus.CONFLICT: PutAnswer.BUSY,
}
_REFUSED = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}
)
"""Statuses by which servers refuse a header that they don't know."""


class Bucket:
    """The objects of one bucket below one prefix (empty, or ending in ``/``). Thread-safe.

    Every method raises StoreError, with the object, S3's code and what to do.
    """

    def __init__(
        self,
        client: "S3Client",
        name: str,
        prefix: str,
        options: StoreOptions = NO_OPTIONS,
    ) -> None:
        self._client = client
        self._name = name
        self._prefix = prefix
        self._options = options
        self._put_again = RepeatedPut(client)
        self._asked = _options_of_every_call(options)
        self._put = self._asked | _options_of_every_put(options)

    def uri(self, key: str) -> str:
        """``s3://bucket/prefix/key``."""
        return f"s3://{self._name}/{self._prefix}{key}"

    def describe(
        self,
        key: str,
        body: Body,
        content_type: str,
        metadata: Mapping[str, str],
        sha256: str = "",
    ) -> StoredObject:
        """The object that these bytes will be under this key; ``sha256`` where it is known."""
        place = (key, self.uri(key), size_of(body), sha256 or sha256_of(body))
        return StoredObject(*place, content_type, dict(metadata))

    def put(
        self, described: StoredObject, body: Body, headers: Mapping[str, str] = _NO_HEADERS
    ) -> PutReply:
        """Write an object, replacing what lies there.

        ``headers`` are added to the request or replace those of the options, by boto3's names.
        """
        request = self._request(described, body, headers)
        with self._store_errors("PutObject", described.key):
            return self._write(request, described)

    def put_if_absent(
        self, described: StoredObject, body: Body, headers: Mapping[str, str] = _NO_HEADERS
    ) -> tuple[PutAnswer, PutReply]:
        """Write an object only where nothing lies, if the server knows how to."""
        return self._put_if(described, body, {**headers, "IfNoneMatch": "*"})

    def put_if_same(
        self,
        described: StoredObject,
        body: Body,
        etag: str,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> tuple[PutAnswer, PutReply]:
        """Write an object only in place of the one with this ETag, if the server knows how to."""
        return self._put_if(described, body, {**headers, "IfMatch": f'"{etag}"'})

    def _put_if(
        self, described: StoredObject, body: Body, headers: Mapping[str, str]
    ) -> tuple[PutAnswer, PutReply]:
        request = self._request(described, body, headers)
        with self._store_errors("PutObject", described.key):
            try:
                reply = self._write(request, described)
            except botocore_errors.ClientError as error:
                # NoSuchKey: the object was deleted while the server looked at the condition.
                if code_of(error) == "NoSuchKey":
                    return PutAnswer.BUSY, PutReply()
                if answer := _ANSWERS.get(status_of(error)):
                    return answer, PutReply()
                raise
        return PutAnswer.WRITTEN, reply

    def head(self, key: str) -> StoredObject | None:
        """What lies under the key, or None."""
        with self._store_errors("HeadObject", key):
            try:
                answer = self._client.head_object(
                    Bucket=self._name, Key=self._prefix + key, **self._asked
                )
            except botocore_errors.ClientError as error:
                if status_of(error) == HTTPStatus.NOT_FOUND:
                    return None
                raise
        metadata = dict(answer["Metadata"])
        checksum = metadata.pop(SHA256_NAME, "")
        size, content_type = answer["ContentLength"], answer.get("ContentType", "")
        return StoredObject(key, self.uri(key), size, checksum, content_type, metadata)

    def get(self, key: str) -> tuple[bytes, str]:
        """The bytes, and the checksum that they were written with (empty where it is not known)."""
        with self._store_errors("GetObject", key):
            for _ in range(_CUT_TRIES - 1):
                with suppress(*_CUT):
                    return self._get(key)
            return self._get(key)

    def _get(self, key: str) -> tuple[bytes, str]:
        answer = self._client.get_object(Bucket=self._name, Key=self._prefix + key, **self._asked)
        return answer["Body"].read(), answer["Metadata"].get(SHA256_NAME, "")

    def presigned(self, key: str, seconds: int) -> str:
        """See ``S3Store.presigned``."""
        with self._store_errors("GetObject", key):
            return self._client.generate_presigned_url(
                "get_object",
                Params={"Bucket": self._name, "Key": self._prefix + key, **self._asked},
                ExpiresIn=seconds,
            )

    def list(self, prefix: str, *, page: int = 1000) -> Iterator[str]:
        """The keys that start with ``prefix``, in byte order; what is no key is left out."""
        return (key for key, _, _ in self.find(prefix, page=page) if is_key(key))

    def find(self, prefix: str, *, page: int = 1000) -> Iterator[tuple[str, int, str]]:
        """Every object whose key starts with ``prefix``: its key, its bytes and its ETag."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._name,
            Prefix=self._prefix + prefix,
            PaginationConfig={"PageSize": page},
            **self._asked,
        )
        with self._store_errors("ListObjectsV2", prefix):
            for answer in pages:
                for item in answer.get("Contents", ()):
                    key = item["Key"].removeprefix(self._prefix)
                    yield key, item["Size"], plain_etag(item.get("ETag", ""))

    def read(self, key: str) -> tuple[bytes, str] | None:
        """The bytes under the key and their ETag; None where nothing lies there."""
        with self._store_errors("GetObject", key):
            try:
                answer = self._client.get_object(
                    Bucket=self._name, Key=self._prefix + key, **self._asked
                )
            except botocore_errors.ClientError as error:
                if status_of(error) == HTTPStatus.NOT_FOUND and code_of(error) != "NoSuchBucket":
                    return None
                raise
            return answer["Body"].read(), plain_etag(answer.get("ETag", ""))

    def fetch(self, key: str, into: BinaryIO) -> str | None:
        """Write the bytes under the key to a file; their ETag, or None where nothing lies there."""
        with self._store_errors("GetObject", key):
            for _ in range(_CUT_TRIES - 1):
                with suppress(*_CUT):
                    return self._fetch(key, into)
            return self._fetch(key, into)

    def _fetch(self, key: str, into: BinaryIO) -> str | None:
        into.seek(0)
        into.truncate()
        try:
            answer = self._client.get_object(
                Bucket=self._name, Key=self._prefix + key, **self._asked
            )
        except botocore_errors.ClientError as error:
            if status_of(error) == HTTPStatus.NOT_FOUND and code_of(error) != "NoSuchBucket":
                return None
            raise
        into.writelines(answer["Body"].iter_chunks(PIECE))
        return plain_etag(answer.get("ETag", ""))

    def delete(self, key: str) -> None:
        """Remove an object; nothing where there is none."""
        with self._store_errors("DeleteObject", key):
            self._client.delete_object(Bucket=self._name, Key=self._prefix + key, **self._asked)

    def _request(
        self, described: StoredObject, body: Body, headers: Mapping[str, str] = _NO_HEADERS
    ) -> "PutObjectRequestTypeDef":
        request: PutObjectRequestTypeDef = {
            "Bucket": self._name,
            "Key": self._prefix + described.key,
            "Body": body,
            "ContentType": described.content_type,
            "Metadata": {**described.metadata, SHA256_NAME: described.sha256},
        }
        request.update(_CHECKSUMS[self._options.checksum](described, body))
        if not isinstance(body, bytes):
            body.seek(0)
        request.update(self._put)
        extra: Any = dict(headers)
        request.update(extra)
        return request

    def _write(self, request: "PutObjectRequestTypeDef", described: StoredObject) -> PutReply:
        if isinstance(request.get("Body"), bytes):
            headers = self._put_again.put(request, described.sha256)
        else:  # a file is rare and large: boto3's own CPU is nothing beside it
            headers = self._client.put_object(**request)["ResponseMetadata"]["HTTPHeaders"]
        name = f"Checksum{self._options.checksum}"
        return PutReply(
            etag=plain_etag(headers.get("etag", "")),
            checksum=headers.get(f"x-amz-checksum-{self._options.checksum.lower()}", ""),
            sent=str({**request}.get(name, "")),
        )

    @contextmanager
    def _store_errors(self, operation: str, key: str) -> Iterator[None]:
        try:
            yield
        except (botocore_errors.ClientError, botocore_errors.BotoCoreError) as error:
            place = Place(self._name, self._prefix, self._client, self._options)
            message = f"{self.uri(key)}: {explain(error, operation, place)}"
            is_refused = isinstance(error, botocore_errors.ClientError) and (
                operation == "PutObject" and status_of(error) in _REFUSED
            )
            raise (PutRefused if is_refused else StoreError)(message) from None


def _sha256_header(described: StoredObject, _: Body) -> dict[str, str]:
    return {"ChecksumSHA256": _base64(bytes.fromhex(described.sha256))}


def _sha1_header(_: StoredObject, body: Body) -> dict[str, str]:
    return {"ChecksumSHA1": _base64(sha1_of(body))}


def _crc32_header(_: StoredObject, body: Body) -> dict[str, str]:
    found = 0
    for piece in pieces_of(body):
        found = zlib.crc32(piece, found)
    return {"ChecksumCRC32": _base64(found.to_bytes(4))}


def _md5_header(_: StoredObject, body: Body) -> dict[str, str]:
    return {"ContentMD5": _base64(md5_of(body))}


def _no_header(_: StoredObject, __: Body) -> dict[str, str]:
    return {}


_CHECKSUMS: Mapping[str, Callable[[StoredObject, Body], Any]] = {
    "SHA256": _sha256_header,
    "SHA1": _sha1_header,
    "CRC32": _crc32_header,
    "MD5": _md5_header,
    "none": _no_header,
}
"""By option what a PUT says of its bytes, as boto3 names it."""


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def plain_etag(text: str) -> str:
    """An ETag without its quotes, in lower case."""
    return text.strip('"').lower()


def _options_of_every_call(options: StoreOptions) -> Any:
    return {"RequestPayer": options.request_payer} if options.request_payer else {}


def _options_of_every_put(options: StoreOptions) -> Any:
    given = {
        "ServerSideEncryption": options.sse,
        "SSEKMSKeyId": options.sse_kms_key_id,
        "StorageClass": options.storage_class,
        "ACL": options.acl,
        "Tagging": urlencode(options.tag_pairs),
    }
    return {name: value for name, value in given.items() if value}


def open_bucket(name: str, prefix: str, options: StoreOptions, *, concurrency: int) -> S3Store:
    """A store in a bucket, for ``concurrency`` threads. Raises StoreError as ``open_client``."""
    bucket = Bucket(open_client(concurrency, options.addressing), name, prefix, options)
    return S3Store(bucket, require_conditions=options.writers != ONE)


def open_client(concurrency: int, addressing: str = "auto") -> "S3Client":
    """A client for ``concurrency`` threads; boto3 finds the endpoint, region and keys by itself.

    With ``auto`` also how a bucket is addressed: by ``s3.addressing_style`` of AWS's own file, else
    as boto3 does for the endpoint.

    Raises StoreError where boto3's variables make no client.
    """
    style: Any = None if addressing == "auto" else {"addressing_style": addressing}
    config = Config(
        s3=style,
        signature_version="s3v4",
        retries={"mode": "standard", "total_max_attempts": 5},
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=max(concurrency, 10),
        # We send checksums ourselves: boto3's default breaks on servers that are not AWS.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # Together they save a fifth of a PUT's CPU: parameters are checked before they come here,
        # and a user agent of our own need not be composed.
        parameter_validation=False,
        user_agent="flux-pipeline",
    )
    try:
        client = _new_session().client("s3", config=config)
    except ValueError:
        raise StoreError(
            "s3: AWS_ENDPOINT_URL is no http(s) address; correct or unset it"
        ) from None
    except botocore_errors.BotoCoreError as error:
        raise StoreError(f"s3: {type(error).__name__}; check the AWS_ variables") from None
    if mistake := find_user_mistake(client.meta.endpoint_url):
        raise StoreError(f"s3: AWS_ENDPOINT_URL {mistake}")
    client.meta.events.register("before-call.s3.HeadBucket", _look_up_region_once)
    return client


def _new_session() -> boto3.session.Session:
    """A session that looks for credentials anew, and shares what was read about S3."""
    descriptions = service_descriptions(os.environ.get("AWS_DATA_PATH"))
    core = botocore.session.get_session()
    core.register_component("data_loader", descriptions)
    parsers = core.get_component("response_parser_factory")
    parsers.set_parser_defaults(timestamp_parser=parse_moment)
    places = list(descriptions.search_paths)
    session = boto3.session.Session(botocore_session=core)
    descriptions.search_paths[:] = places  # boto3 adds its own each time, which are not used here
    return session


def parse_moment(value: Any) -> datetime:
    """A time in a reply, as botocore reads it, which takes two thirds of a listing's CPU for it."""
    with suppress(ValueError):
        if isinstance(value, str) and value.endswith("Z"):
            return datetime.fromisoformat(value)
        if isinstance(value, str) and value.endswith(" GMT"):
            return parsedate_to_datetime(value)
    return parse_timestamp(value)


def _look_up_region_once(params: Any, **_: object) -> None:
    """Keep botocore from looking up a bucket's region by HEAD for the HEAD that looks it up.

    Without end, where a server answers 301 to every HEAD and names no region.
    """
    params["context"]["s3_redirect"]["redirected"] = True
