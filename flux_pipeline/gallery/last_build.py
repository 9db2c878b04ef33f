"""What the last build of a gallery came to: where nothing is new, the next one reads this alone.

The manifest grows with the set, to 40 MB at 300,000 images; this has a line for each file of data.
It holds only for the very manifest that it names, so that two builds at once, or a file that was
deleted, can't lead to a page of what is not there.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flux_pipeline.gallery.manifest import GALLERIES, manifest_key
from flux_pipeline.gallery.page import Summary
from flux_pipeline.iteration import map_ahead
from flux_pipeline.lineage.parts import is_part_of, list_parts
from flux_pipeline.lineage.thumbnails import list_packs
from flux_pipeline.store.base import Store

_THREADS = 8


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a gallery is made of, as it is now."""

    parts: Sequence[str]
    """Keys of the lineage parts that may be of the set."""
    packs: Sequence[str]
    """Keys of its thumbnail packs."""
    asked: str
    """``Asked.version_for`` the set."""

    @property
    def version(self) -> str:
        """A hash of them all."""
        text = json.dumps([self.parts, self.packs, self.asked])
        return hashlib.sha256(text.encode()).hexdigest()


def list_inputs(store: Store, prompt_set: str, asked: str) -> Inputs:
    """List them. Raises StoreError."""
    parts = (key for key in list_parts(store) if is_part_of(key, asset=f"{prompt_set}/images"))
    return Inputs(list(parts), list(list_packs(store, prompt_set)), asked)


@dataclass(frozen=True, slots=True, kw_only=True)
class LastBuild:
    """A gallery as it was built last."""

    inputs: str
    """The version of the inputs."""
    manifest: str
    """SHA-256 of the manifest."""
    files: Mapping[str, str]
    """SHA-256 of each file of data, by its key."""
    summary: Summary
    images_version: str
    """SHA-256 of the sorted hashes of all images that are shown."""

    def is_current(self, store: Store, inputs: Inputs, run_id: str) -> bool:
        """Whether a build would come to the same: a HEAD for each file. Raises StoreError.

        The parts of ``run_id`` may have been written again.
        """
        return (
            self.inputs == inputs.version
            and not (run_id and any(is_part_of(key, run_id=run_id) for key in inputs.parts))
            and not find_damaged(store, {manifest_key(self.summary.name): self.manifest})
            and not find_damaged(store, self.files)
        )

    def write(self, store: Store) -> None:
        """Remember it. Raises StoreError."""
        body = json.dumps(asdict(self), ensure_ascii=False, indent=1).encode()
        store.put(_key(self.summary.name), body, content_type="application/json")


def load_last_build(store: Store, prompt_set: str) -> LastBuild | None:
    """The last build; None where nothing is known of it. Raises StoreError."""
    key = _key(prompt_set)
    if key not in store.list(key):
        return None
    try:
        found: dict[str, Any] = json.loads(store.get(key))
        return LastBuild(**{**found, "summary": Summary.of_json(found["summary"])})
    except (LookupError, TypeError, ValueError):
        return None


def find_damaged(store: Store, files: Mapping[str, str]) -> set[str]:
    """The keys of those files that are not as they were written. Raises StoreError."""
    heads: Iterable[Any] = map_ahead(store.head, files, threads=_THREADS)
    return {
        key
        for (key, digest), head in zip(files.items(), heads, strict=True)
        if head is None or head.sha256 != digest
    }


def _key(prompt_set: str) -> str:
    return f"{GALLERIES}{prompt_set}/last-build.json"
