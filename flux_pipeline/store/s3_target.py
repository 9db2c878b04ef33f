"""A target in a bucket of S3, or of a server that speaks its protocol; see ``target``.

Publishers keep each other out by an object ``.publish-lock``, which is written under a condition
and renewed by its holder. Who waits for it takes it over when it has not changed for a minute *by
the waiter's own clock*, so that clocks of machines are never compared.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from tempfile import TemporaryFile
from typing import BinaryIO

from flux_pipeline.errors import StoreError
from flux_pipeline.store.base import Body, StoredObject, sha256_of
from flux_pipeline.store.s3 import (
    Bucket,
    ConfirmedPuts,
    PutAnswer,
    PutRefused,
    PutReply,
    open_client,
)
from flux_pipeline.store.target import Kind, TargetChanged, TargetFile, TargetOptions, check_path
from flux_pipeline.store_options import NO_OPTIONS, StoreOptions

LOCK = ".publish-lock"
TAKEN_OVER_AFTER = 60.0
"""Seconds without a change of the lock, after which its holder counts as dead."""
_HELD_FOR = 25.0
"""Seconds after the last renewal was begun in which the holder may write. What it sends then has
35 s to arrive before another publisher can come in."""
_RENEWED_AFTER = 8.0
_LOOKED_AT_EVERY = 0.5
_PLAIN = "text/plain"
_NAMES = {"FLUX_S3_ACL": "publish.acl", "FLUX_S3_STORAGE_CLASS": "publish.storage_class"}


class S3Target:
    """A target in one bucket below one prefix. Every method raises StoreError.

    The trap: where the server knows no conditions (``If-None-Match``, ``If-Match``), two publishers
    may both come into ``exclusive``. What is read back after each write shows it mostly.
    """

    def __init__(
        self,
        bucket: Bucket,
        options: TargetOptions,
        private: Mapping[str, str],
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bucket = bucket
        self._puts = ConfirmedPuts(bucket, sleep)
        self._sleep = sleep
        self._clock = clock
        public = {"ACL": options.acl, "StorageClass": options.storage_class}
        public = {name: value for name, value in public.items() if value}
        cached = {"CacheControl": options.cache_control} if options.cache_control else {}
        self._headers: Mapping[Kind, Mapping[str, str]] = {
            "picture": public | cached,
            "index": public | {"CacheControl": "no-cache"},
            "private": dict(private),
        }

    @property
    def uri(self) -> str:
        """``s3://bucket/prefix``, without a slash at the end."""
        return self._bucket.uri("").rstrip("/")

    def check(self) -> None:
        """List one object; whether files can be written is seen when the first one is."""
        next(self._bucket.find("", page=1), None)

    def find(self, prefix: str = "") -> Iterator[TargetFile]:
        """Every object whose key begins so, below the target's own prefix."""
        for path, size, tag in self._bucket.find(prefix):
            yield TargetFile(path, size, tag)

    def read(self, path: str) -> tuple[bytes, str] | None:
        """The bytes of an object and its ETag; None where there is none."""
        check_path(path)
        return self._bucket.read(path)

    def fetch(self, path: str, into: BinaryIO) -> str | None:
        """As ``read``, but into an open, empty file; return the ETag."""
        check_path(path)
        return self._bucket.fetch(path, into)

    def put(
        self,
        path: str,
        body: Body,
        *,
        content_type: str = "",
        kind: Kind = "picture",
        replacing: str | None = None,
    ) -> str:
        """Write an object; see ``Target.put``. Where the server has no conditions, none holds."""
        check_path(path)
        described = self._bucket.describe(path, body, content_type or _PLAIN, {})
        headers = self._headers[kind]
        with _as_published():
            if replacing is None:
                reply = self._bucket.put(described, body, headers)
            else:
                reply = self._put_if(described, body, replacing, headers)
            self._puts.confirm(described, body, reply, headers)
        return reply.etag

    def _put_if(
        self, described: StoredObject, body: Body, tag: str, headers: Mapping[str, str]
    ) -> PutReply:
        try:
            answer, reply = (
                self._bucket.put_if_same(described, body, tag, headers)
                if tag
                else self._bucket.put_if_absent(described, body, headers)
            )
        except PutRefused:  # for the condition, or for what a put without one says
            return self._bucket.put(described, body, headers)
        if answer is PutAnswer.WRITTEN:
            return reply
        # A put whose answer was lost is repeated by boto3, and then fails on its own object.
        with TemporaryFile() as lies:
            etag = self._bucket.fetch(described.key, lies)
            if etag is not None and sha256_of(lies) == described.sha256:
                return replace(reply, etag=etag)
        raise TargetChanged(f"{described.uri}: another publisher has written it meanwhile")

    def delete(self, path: str) -> None:
        """Remove an object; nothing where there is none."""
        check_path(path)
        self._bucket.delete(path)

    @contextmanager
    def exclusive(self, on_wait: Callable[[], None] | None = None) -> Iterator[Callable[[], None]]:
        """Hold the object ``.publish-lock``; see ``Target.exclusive``."""
        lock = _Lock(self._bucket, self._headers["private"], self._sleep, self._clock)
        with _as_published():
            lock.acquire(on_wait)
        try:
            yield lock.renew
        finally:
            with suppress(StoreError):  # what the block raised matters more; a minute frees it too
                lock.release()


class _Lock:
    """The lock object of one target, as one publisher sees it."""

    def __init__(
        self,
        bucket: Bucket,
        headers: Mapping[str, str],
        sleep: Callable[[float], None],
        clock: Callable[[], float],
    ) -> None:
        self._bucket = bucket
        self._headers = headers
        self._sleep = sleep
        self._clock = clock
        self._holder = uuid.uuid4().hex
        self._renewals = 0
        self._tag = ""
        self._since = 0.0

    def acquire(self, on_wait: Callable[[], None] | None) -> None:
        """Return when no other publisher holds it."""
        seen, seen_at = "", self._clock()
        while True:
            found = self._bucket.read(LOCK)
            tag = found[1] if found is not None else ""
            if tag != seen:
                seen, seen_at = tag, self._clock()
            is_free = not tag or self._clock() - seen_at >= TAKEN_OVER_AFTER
            if is_free and self._write(tag):
                return
            if on_wait is not None:
                on_wait()
                on_wait = None
            self._sleep(_LOOKED_AT_EVERY)

    def renew(self) -> None:
        """Make sure that it is held for a while. Raises StoreError where it was lost."""
        age = self._clock() - self._since
        if age < _RENEWED_AFTER:
            return
        if not self._write(self._tag) or self._clock() - self._since >= _HELD_FOR:
            raise StoreError(
                f"{self._bucket.uri(LOCK)}: another publisher took over, because this one stood"
                " still for a while; publish again"
            )

    def release(self) -> None:
        """Let others in, unless they are in already."""
        found = self._bucket.read(LOCK)
        if found is not None and found[1] == self._tag:
            self._bucket.delete(LOCK)

    def _write(self, replaced: str) -> bool:
        """Write the lock in place of the one with this tag; whether it is ours then."""
        begun = self._clock()
        self._renewals += 1
        body = f"{self._holder} {self._renewals}\n".encode()
        described = self._bucket.describe(LOCK, body, _PLAIN, {})
        try:
            if replaced:
                self._bucket.put_if_same(described, body, replaced, self._headers)
            else:
                self._bucket.put_if_absent(described, body, self._headers)
        except PutRefused:
            self._bucket.put(described, body, self._headers)
        # Read, whatever was answered: a repeated put fails on its own object, and a server without
        # conditions takes every put.
        found = self._bucket.read(LOCK)
        if found is None or found[0] != body:
            return False
        self._tag, self._since = found[1], begun
        return True


@contextmanager
def _as_published() -> Iterator[None]:
    """Name the keys of ``publish`` where an error names the store's settings."""
    try:
        yield
    except TargetChanged:
        raise
    except StoreError as error:
        message = str(error)
        for variable, key in _NAMES.items():
            message = message.replace(variable, key)
        raise StoreError(message) from None


def open_bucket_target(
    name: str,
    prefix: str,
    options: TargetOptions,
    store_options: StoreOptions = NO_OPTIONS,
    *,
    concurrency: int,
) -> S3Target:
    """A target in a bucket, for ``concurrency`` threads. Raises StoreError as ``open_client``."""
    client = open_client(concurrency, store_options.addressing)
    # ACL and class are sent with published files alone, as `publish` has them, or else the store's.
    plain = replace(store_options, acl="", storage_class="")
    private = {"ACL": store_options.acl} if store_options.acl else {}
    given = replace(
        options,
        acl=options.acl or store_options.acl,
        storage_class=options.storage_class or store_options.storage_class,
    )
    return S3Target(Bucket(client, name, prefix, plain), given, private)
