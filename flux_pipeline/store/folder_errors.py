"""What the operating system refuses in a folder store, said with the place and what to do."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from flux_pipeline.errors import StoreError

_HINTS = {
    errno.ENOENT: "there is no such object",
    errno.ENOSPC: "free some space or choose another disk; nothing was written",
    errno.EDQUOT: "the quota is used up: free some space; nothing was written",
    errno.EFBIG: "the size limit of this process or disk is reached; nothing was written",
    errno.EACCES: "this user may not write or read here: correct the folder's owner or mode",
    errno.EROFS: "choose a folder that can be written",
    errno.EPERM: "this disk may have no hard links, or forbids it: choose a folder on another one",
    errno.ENOTSUP: "this disk has no hard links: choose a folder on another one",
    errno.EXDEV: "a folder inside is on another disk: keep the whole store on one",
    errno.EMLINK: "this disk has no hard links: choose a folder on another one",
    errno.EEXIST: "a part of this key is a file already, so it can't be a folder",
    errno.ENOTDIR: "a part of this key is a file already, so it can't be a folder",
    errno.EISDIR: "this key is a folder already, so it can't be an object",
    errno.EIO: "the disk fails: look at it before anything else is written",
    errno.EMFILE: "too many open files: raise `ulimit -n` or lower the concurrency",
}


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Turn OSErrors of the body into StoreErrors that begin with ``place``. Raises StoreError."""
    try:
        yield
    except OSError as error:
        code = error.errno or 0
        reason = os.strerror(code) if code else type(error).__name__
        hint = _HINTS.get(code)
        raise StoreError(f"{place}: {reason}" + (f"; {hint}" if hint else "")) from error
