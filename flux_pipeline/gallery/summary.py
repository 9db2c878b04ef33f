"""What a gallery comes to and which pages it has: all that the page needs to begin with."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow.compute as pc

from flux_pipeline.gallery.manifest import Manifest
from flux_pipeline.gallery.pages import FIELDS

_FORM = 1


@dataclass(frozen=True, slots=True)
class Summary:
    """One prompt set's gallery in some lines."""

    name: str
    description: str
    stored: int
    """Images."""
    missing: int
    """Images that were refused, failed or are held."""
    usd: float
    """By estimate."""
    pages: tuple[tuple[int, int, str, str], ...]
    """Number, rows, and of its two files the hashes' beginnings, which tell versions apart."""
    form: int = _FORM

    @classmethod
    def of(cls, name: str, description: str, manifest: Manifest) -> "Summary":
        """Add up a manifest."""
        rows = Counter(manifest.rows.column("page").to_pylist())
        statuses = Counter(manifest.rows.column("status").to_pylist())
        stored = statuses.pop("stored", 0)
        usd = pc.sum(manifest.rows.column("cost_usd")).as_py() or 0.0
        pages = sorted(manifest.pages.items())
        return cls(
            name,
            description,
            stored,
            statuses.total(),
            round(usd, 6),
            tuple(
                (number, rows[number], page.rows[:8], page.details[:8]) for number, page in pages
            ),
        )

    @classmethod
    def load(cls, body: bytes) -> "Summary":
        """Read what ``to_bytes`` wrote. Raises ValueError for anything else."""
        try:
            found = json.loads(body)
            pages = tuple((int(n), int(rows), *map(str, tags)) for n, rows, *tags in found["pages"])
            summary = cls(**{**found, "pages": pages})
        except (LookupError, TypeError) as error:
            raise ValueError(f"no summary of a gallery: {error}") from None
        if summary.form != _FORM:
            raise ValueError("a summary of another version")
        return summary

    def to_bytes(self) -> bytes:
        """JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1).encode()


def page_data(
    title: str, summaries: Sequence[Summary], *, root: str, folders: bool, now: datetime
) -> Mapping[str, Any]:
    """What the page's script is given.

    ``root`` leads from the page to the store's keys; with ``folders`` each prompt set's files lie
    in a folder of its name.
    """
    return {
        "title": title,
        "root": root,
        "folders": folders,
        "asOf": now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "fields": FIELDS,
        "sets": [asdict(summary) for summary in summaries],
    }
