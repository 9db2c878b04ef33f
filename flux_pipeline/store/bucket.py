"""One request at a time to a bucket of S3, or of a server that speaks its protocol.

The only module that imports boto3 (0.3 s of CPU), itself imported only when a bucket is opened. It
asks for no more than most servers can do: PUT, HEAD, GET and a listing. The SHA-256 of the bytes
goes along twice: as a header that the server checks, and as metadata of our own, because not every
server gives the header back.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from flux_pipeline.errors import StoreError
from flux_pipeline.store.base import StoredObject
from flux_pipeline.store.keys import SHA256_NAME, is_key
from flux_pipeline.store.s3_errors import code_of, describe, status_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import PutObjectRequestTypeDef

_CUT_TRIES = 3


class Answer(Enum):
    """What came of a PUT that was to write only where nothing lies."""

    WRITTEN = "written"
    TAKEN = "taken"
    BUSY = "busy"
    """Another writer, or a delete, was at work on the key: ask again."""
    UNABLE = "unable"
    """The server says that it knows no such condition."""


_ANSWERS: dict[int, Answer] = {
    HTTPStatus.PRECONDITION_FAILED: Answer.TAKEN,
    HTTPStatus.CONFLICT: Answer.BUSY,
    HTTPStatus.NOT_IMPLEMENTED: Answer.UNABLE,
}


def open_client(concurrency: int) -> "S3Client":
    """A client for ``concurrency`` threads; endpoint, region and keys are boto3's own affair.

    Checksums only where we send them: boto3's default breaks on servers that are not AWS.
    Raises StoreError where boto3's variables make no client.
    """
    config = Config(
        signature_version="s3v4",
        retries={"mode": "standard", "total_max_attempts": 5},
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=max(concurrency, 10),
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # Together a fifth of a PUT's CPU. What we send is checked before, and who we are is short.
        parameter_validation=False,
        user_agent="flux-pipeline",
    )
    try:
        return boto3.session.Session().client("s3", config=config)
    except ValueError:
        raise StoreError(
            "s3: AWS_ENDPOINT_URL is no http(s) address; correct or unset it"
        ) from None
    except BotoCoreError as error:
        raise StoreError(f"s3: {type(error).__name__}; check the AWS_ variables") from None


class Bucket:
    """The objects of one bucket below one prefix (empty, or ending in ``/``). Thread-safe.

    Every method raises StoreError, with the object, S3's code and what to do.
    """

    def __init__(self, client: "S3Client", name: str, prefix: str) -> None:
        self._client = client
        self._name = name
        self._prefix = prefix

    def uri(self, key: str) -> str:
        """``s3://bucket/prefix/key``."""
        return f"s3://{self._name}/{self._prefix}{key}"

    def describe(
        self, key: str, body: bytes, content_type: str, metadata: Mapping[str, str]
    ) -> StoredObject:
        """The object that these bytes will be under this key."""
        checksum = hashlib.sha256(body).hexdigest()
        return StoredObject(key, self.uri(key), len(body), checksum, content_type, dict(metadata))

    def put(self, described: StoredObject, body: bytes) -> None:
        """Write an object, replacing what lies there."""
        with self._naming("PutObject", described.key):
            self._client.put_object(**self._request(described, body))

    def put_if_absent(self, described: StoredObject, body: bytes) -> Answer:
        """Write an object only where nothing lies, if the server knows how to."""
        request = self._request(described, body)
        request["IfNoneMatch"] = "*"
        with self._naming("PutObject", described.key):
            try:
                self._client.put_object(**request)
            except ClientError as error:
                # NoSuchKey: what lay there was deleted while the condition was looked at.
                if code_of(error) == "NoSuchKey":
                    return Answer.BUSY
                if answer := _ANSWERS.get(status_of(error)):
                    return answer
                raise
        return Answer.WRITTEN

    def head(self, key: str) -> StoredObject | None:
        """What lies under the key, or None."""
        with self._naming("HeadObject", key):
            try:
                answer = self._client.head_object(Bucket=self._name, Key=self._prefix + key)
            except ClientError as error:
                if status_of(error) == HTTPStatus.NOT_FOUND:
                    return None
                raise
        metadata = dict(answer["Metadata"])
        checksum = metadata.pop(SHA256_NAME, "")
        size, content_type = answer["ContentLength"], answer.get("ContentType", "")
        return StoredObject(key, self.uri(key), size, checksum, content_type, metadata)

    def get(self, key: str) -> tuple[bytes, str]:
        """The bytes, and the checksum that they were written with (empty where it is not known)."""
        with self._naming("GetObject", key):
            for _ in range(_CUT_TRIES - 1):
                # boto3 repeats a request that failed, but not a body that was cut.
                with suppress(IncompleteReadError, ReadTimeoutError, ResponseStreamingError):
                    return self._get(key)
            return self._get(key)

    def _get(self, key: str) -> tuple[bytes, str]:
        answer = self._client.get_object(Bucket=self._name, Key=self._prefix + key)
        return answer["Body"].read(), answer["Metadata"].get(SHA256_NAME, "")

    def list(self, prefix: str, *, page: int = 1000) -> Iterator[str]:
        """The keys that start with ``prefix``, in byte order; what is no key is left out."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._name, Prefix=self._prefix + prefix, PaginationConfig={"PageSize": page}
        )
        with self._naming("ListObjectsV2", prefix):
            for answer in pages:
                for item in answer.get("Contents", ()):
                    key = item["Key"].removeprefix(self._prefix)
                    if is_key(key):
                        yield key

    def _request(self, described: StoredObject, body: bytes) -> "PutObjectRequestTypeDef":
        checksum = described.sha256
        return {
            "Bucket": self._name,
            "Key": self._prefix + described.key,
            "Body": body,
            "ContentType": described.content_type,
            "ChecksumSHA256": base64.b64encode(bytes.fromhex(checksum)).decode(),
            "Metadata": {**described.metadata, SHA256_NAME: checksum},
        }

    @contextmanager
    def _naming(self, operation: str, key: str) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            place = {
                "bucket": self._name,
                "prefix": self._prefix,
                "endpoint": self._client.meta.endpoint_url,
            }
            reason = describe(error, operation, **place)
            raise StoreError(f"{self.uri(key)}: {reason}") from None
