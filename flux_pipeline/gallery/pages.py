"""The files of data that the page loads: scripts, because nothing else loads from a folder.

Each is one call with arrays of plain values, a line a row. All text is JSON with every character
escaped that means something to HTML or ends a line in a script, so that no prompt is ever code.
"""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flux_pipeline.lineage.schema import SCHEMA
from flux_pipeline.store.base import is_key

SCRIPT = "text/javascript; charset=utf-8"
FIELDS = SCHEMA.names
"""What the lineage panel is given of each image, in this order."""
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029\x7f\x85"}
_MOST_REASON = 300
"""Characters of a reason on a tile; the panel has all of it."""
_MOST_THUMBNAIL = 65_536
_HELD = "held: "
"""What the reason of a failed image begins with, where `flux-pipeline held` ends it."""


def to_json(value: Any) -> str:
    """JSON that is safe in a script, inside HTML too, and reads back as the same value."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.translate(_ESCAPES)


def script(kind: str, prompt_set: str, page: int, lines: Iterable[str]) -> bytes:
    """A file of data: each line is one row as JSON."""
    head = to_json([kind, prompt_set, page])[1:-1]
    return f"fluxGallery({head},[\n{f',{_END}'.join(lines)}\n]);\n".encode()


def lines_of(body: bytes) -> list[str]:
    """The lines that ``script`` was given. Raises ValueError where there are none."""
    text = body.decode()
    _, start, rest = text.partition("[\n")
    lines, end, _ = rest.rpartition("\n]);")
    if not (start and end):
        raise ValueError("no file of a gallery's data")
    return lines.split(f",{_END}") if lines else []


def listed(rows: pa.Table, store_uri: str) -> list[str]:
    """The rows of the manifest as the page's grid needs them."""
    return [to_json(_listed(row, store_uri)) for row in rows.to_pylist()]


def detailed(rows: pa.Table, ids: Sequence[str], thumbnails: Mapping[str, bytes]) -> list[str]:
    """Whole records with their thumbnails, as the lineage panel needs them."""
    lines = []
    for row_id, row in zip(ids, rows.select(FIELDS).to_pylist(), strict=True):
        thumbnail = _data(thumbnails.get(row["image_sha256"] or "", b""))
        lines.append(to_json([row_id, thumbnail, *(_plain(name, row[name]) for name in FIELDS)]))
    return lines


def when(rows: pa.Table) -> Any:
    """For each row the time it speaks of, as ``lineage.current`` has it; null where unknown."""
    return pc.coalesce(*(rows.column(n) for n in ("stored_at", "completed_at", "requested_at")))


_END = "\n"


def _listed(row: Mapping[str, Any], store_uri: str) -> list[Any]:
    status, reason = row["status"], row["error"] or ""
    if reason.startswith(_HELD):
        status, reason = "held", reason.removeprefix(_HELD)
    time = row["stored_at"] or row["completed_at"] or row["requested_at"]
    uri = row["uri"] or ""
    key = uri.removeprefix(f"{store_uri}/")
    if status != "stored" or key == uri or not is_key(key):
        reason = reason if status != "stored" else f"lies in another store: {uri}"
        key = ""
    return [
        row["id"],
        row["prompt_name"],
        row["partition"],
        row["take"],
        row["prompt"],
        None if row["seed"] is None else str(row["seed"]),  # JavaScript rounds above 2^53
        status,
        reason[:_MOST_REASON],
        key,
        row["width"] or 0,
        row["height"] or 0,
        int(time.timestamp() * 1000) if time else 0,
    ]


def _data(thumbnail: bytes) -> str:
    """Base64 of a WebP; empty for anything else."""
    if thumbnail[8:12] != b"WEBP" or len(thumbnail) > _MOST_THUMBNAIL:
        return ""
    return base64.b64encode(thumbnail).decode()


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if name == "dhash" and value is not None:
        return f"{value:016x}"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return value
