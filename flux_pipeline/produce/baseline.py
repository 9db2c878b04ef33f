"""Compares the requests of a plan with those of an earlier revision: what was added or edited.

That works for a million prompts without holding them: 64 bits of each fingerprint and name are
kept. Two that collide would hide one change in a forecast, by a chance of one in ten million at a
million prompts, and nothing is ever sent because of it.
"""

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from itertools import groupby

import numpy as np
import numpy.typing as npt

from flux_pipeline.produce.plan import Changes
from flux_pipeline.request import Request

_BITS = (1 << 64) - 1


class Baseline:
    """The requests of an earlier revision, in 8 bytes a request and 17 a prompt."""

    def __init__(self) -> None:
        self._requests = array("Q")
        self._sorted: npt.NDArray[np.uint64] | None = None
        self._prompts: dict[str, _PromptVersions] = {}

    def add(self, prompt_set: str, requests: Iterable[Request]) -> None:
        """Add one set as it was; the takes of a prompt must follow each other."""
        names, versions = array("Q"), array("Q")
        for name, takes in groupby(requests, key=_name):
            version = 0
            for request in takes:
                self._requests.append(_short_fingerprint(request))
                version += self._requests[-1]
            names.append(_hash(name))
            versions.append(version & _BITS)
        self._sorted = None
        self._prompts[prompt_set] = _PromptVersions(names, versions)

    def asked(self, request: Request) -> bool:
        """Whether the same request was asked for, in any set."""
        if self._sorted is None:
            self._sorted = np.sort(np.array(self._requests, np.uint64))
        at = int(np.searchsorted(self._sorted, np.uint64(_short_fingerprint(request))))
        return at < len(self._sorted) and int(self._sorted[at]) == _short_fingerprint(request)

    def watch(
        self, prompt_set: str, requests: Iterable[Request], changes: Changes
    ) -> Iterator[Request]:
        """Pass on a set's requests as they are now, and note what is added and edited."""
        prompts = self._prompts.setdefault(prompt_set, _PromptVersions(array("Q"), array("Q")))
        for name, takes in groupby(requests, key=_name):
            version = 0
            for request in takes:
                version += _short_fingerprint(request)
                yield request
            known = prompts.find(_hash(name))
            if known is None:
                changes.added.append(name)
            elif known != version & _BITS:
                changes.edited.append(name)

    def gone(self, prompt_set: str, names: Iterable[str]) -> Iterator[str]:
        """Those of the earlier names that ``watch`` has not come across."""
        prompts = self._prompts[prompt_set]
        return (name for name in names if prompts.is_unseen(_hash(name)))


class _PromptVersions:
    """Hashes of prompt names and of their requests, sorted by name, and which were seen since."""

    def __init__(self, names: "array[int]", versions: "array[int]") -> None:
        order = np.argsort(np.array(names, np.uint64), kind="stable")
        self._names = np.array(names, np.uint64)[order]
        self._versions = np.array(versions, np.uint64)[order]
        self._seen = np.zeros(len(order), np.bool_)

    def find(self, name: int) -> int | None:
        at = self._place(name)
        if at is None:
            return None
        self._seen[at] = True
        return int(self._versions[at])

    def is_unseen(self, name: int) -> bool:
        at = self._place(name)
        return at is not None and not self._seen[at]

    def _place(self, name: int) -> int | None:
        at = int(np.searchsorted(self._names, np.uint64(name)))
        return at if at < len(self._names) and int(self._names[at]) == name else None


def _name(request: Request) -> str:
    return request.source.prompt_name


def _short_fingerprint(request: Request) -> int:
    return int(request.request_sha256[:16], 16)


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
