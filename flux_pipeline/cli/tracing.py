"""What trace and reproduce have in common: from the words of a call to one image's answer."""

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

from flux_pipeline.settings import Settings

if TYPE_CHECKING:
    from flux_pipeline.audit.trace import Answer
    from flux_pipeline.lineage.query import Snapshot
    from flux_pipeline.store.base import Store

_NAMES = 256
"""Characters; what is longer is no id."""


class _WithoutPandas(MetaPathFinder):
    """Finds no pandas: pyarrow loads it for a look at its types, for longer than a search takes."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Refuse pandas, and leave everything else to others."""
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is not needed here", name=fullname)
        return None


def without_pandas() -> None:
    """Keep pandas out of this process, for commands that must be quick and don't need it."""
    sys.meta_path.insert(0, _WithoutPandas())


def open_table() -> "tuple[Store, Snapshot]":
    """The store of the settings, and all that is recorded in it.

    Raises:
        ConfigError, StoreError: As ``Settings.from_environment``, ``open_store``.
    """
    from flux_pipeline.lineage.query import open_snapshot
    from flux_pipeline.store.open import open_store

    store = open_store(Settings.from_environment(os.environ).store)
    return store, open_snapshot(store)


def answer_to(store: "Store", snapshot: "Snapshot", target: str) -> "tuple[Answer | None, str]":
    """Who the target is, and, where that is not known, why; a clause."""
    from flux_pipeline.audit.targets import read_target
    from flux_pipeline.audit.trace import matching_hashes, trace_id, trace_image
    from flux_pipeline.errors import StoreError

    unread = "no file, no key in the store, and no id in the lineage table"
    try:
        body = read_target(store, target)
    except StoreError as error:
        body, unread = None, str(error)
    if body is None:
        found = trace_id(snapshot, target) if len(target) <= _NAMES or ":" in target else None
        if found is None and (count := matching_hashes(snapshot, target)):
            unread = f"{count} hashes begin with it: give more of it"
        return found and found.with_origin(), unread
    from flux_pipeline.images.inspection import read_evidence

    seen = read_evidence(body)
    if (answer := trace_image(snapshot, seen)) is not None:
        return answer.with_origin(), ""
    return None, _why_unknown(seen.image_sha256, seen.dhash, seen.problem)


def _why_unknown(image_sha256: str | None, dhash: int | None, problem: str) -> str:
    looked = ["no label of ours"]
    if image_sha256 is not None:
        looked.append("no image with these pixels in the lineage table")
    if dhash is not None:
        looked.append("none that looks like it (a crop of a fifth is another image)")
    elif not problem:
        looked.append("and it is too plain to be told by its looks")
    return "; ".join([*looked, *([problem] if problem else [])])
