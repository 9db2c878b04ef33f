"""The store in a bucket: how an object is written once by any number of writers."""

import hashlib
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping

from flux_pipeline.errors import StoreError
from flux_pipeline.store.base import StoredObject
from flux_pipeline.store.bucket import Answer, Bucket
from flux_pipeline.store.keys import check_key, check_metadata, check_prefix

_PROBE = ".probe"
_TRIES = 6
_LOCKS = 64


class S3Store:
    """A store in one bucket, below one prefix.

    ``put_new`` is safe against any number of writers where the server honours ``If-None-Match: *``.
    Whether it does is tried once, with the fixed key ``.probe``, which is never deleted. Where it
    does not, ``check`` refuses, unless ``require_conditions`` is False; ``put_new`` then asks first
    and writes a key only once at a time within this process. The trap: two *processes* that put the
    same new key within milliseconds can then overwrite each other. Keys that derive from the
    request, and claims in the ledger, keep them from it.
    """

    def __init__(
        self,
        bucket: Bucket,
        *,
        require_conditions: bool = True,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bucket = bucket
        self._require_conditions = require_conditions
        self._sleep = sleep
        self._honours: bool | None = None
        self._probing = threading.Lock()
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
            raise StoreError(
                f"{self.uri}: this server ignores If-None-Match on PutObject, so that two workers"
                " could overwrite each other's object; use another server, or allow it where only"
                " one process writes at a time"
            )

    def put_new(
        self, key: str, body: bytes, *, content_type: str, metadata: Mapping[str, str]
    ) -> tuple[StoredObject, bool]:
        """Write ``body`` if nothing lies under ``key``; return the object and whether it was new.

        A write whose answer was lost, and that was repeated, counts as not new. Raises StoreError.
        """
        check_key(key)
        check_metadata(content_type, metadata)
        described = self._bucket.describe(key, body, content_type, metadata)
        if not self._honours_conditions():
            return self._put_after_head(described, body)
        for attempt in range(_TRIES):
            if self._bucket.put_if_absent(described, body) is Answer.WRITTEN:
                return described, True
            if existing := self._bucket.head(key):
                return existing, False
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
        self._bucket.put(described, body)
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
                return existing, False
            self._bucket.put(described, body)
            found = self._bucket.head(key) or described
            return found, found == described

    def _honours_conditions(self) -> bool:
        with self._probing:
            if self._honours is None:
                self._honours = self._probe() or self._probe()
            return self._honours

    def _probe(self) -> bool:
        """Whether a condition was seen to hold: at the first try only if the key is there."""
        probe = self._bucket.describe(_PROBE, b"", "text/plain", {})
        return self._bucket.put_if_absent(probe, b"") in (Answer.TAKEN, Answer.BUSY)
