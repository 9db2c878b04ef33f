"""Prompt sets as runs leave them: images, lineage parts and thumbnail packs in a store."""

import io
import json
from collections.abc import Iterable
from datetime import date
from functools import cache
from typing import Any

from PIL import Image

from flux_pipeline.lineage.parts import write_part
from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.lineage.thumbnails import write_pack
from flux_pipeline.store.base import Store, StoredObject
from tests.lineage.samples import a_record

DAY = date(2026, 11, 1)
SIZES = ((96, 96), (128, 72), (72, 128))
HOSTILE = (
    '"><img src=x onerror="window.hacked=1">',
    "</script><script>window.hacked=1</script>",
    "<svg onload=window.hacked=1>",
    "]]></script>\u2028window.hacked=1\u2029//",
    "javascript:window.hacked=1",
    '\\"]);window.hacked=1;([\\"',
    "{{data}} {{script}} ${window.hacked=1} `${window.hacked=1}`",
    "__proto__",
)
SCRIPTS = {
    "chinese": "雪中的城堡，红色的灯笼",
    "arabic": "قلعة في الثلج عند الفجر",
    "emoji": "a castle 🏰 in the snow ❄️ 👩🏽‍🚀",
    "german": "Schloß im Schnee, groß und STRAßE",
    "greek": "ΟΔΟΣ στο χιόνι",
    "french": "Château enneigé à l'aube",
}


@cache
def picture(number: int, size: tuple[int, int], *, name: str = "WEBP") -> bytes:
    """A small picture; every number has its own colours."""
    image = Image.new("RGB", size, ((number * 53) % 256, (number * 97) % 256, 150))
    image.paste(((number * 31) % 256, 90, (number * 71) % 256), (size[0] // 2, 0, *size))
    body = io.BytesIO()
    image.save(body, name, quality=60)
    return body.getvalue()


def an_image(store: Store, number: int, prompt_set: str = "winter", **changes: Any) -> ImageRecord:
    """A record of an image that lies in the store."""
    size = SIZES[number % len(SIZES)]
    key = f"images/{prompt_set}/{number}.webp"
    store.put(key, picture(number, size), content_type="image/webp")
    given = {"uri": f"{store.uri}/{key}", "width": size[0], "height": size[1], "seed": number}
    return a_record(f"{prompt_set} {number}", prompt_set=prompt_set, **(given | changes))


def made_from(*addresses: str | None) -> str:
    """The column of pictures that went in, each as an input of its own."""
    return json.dumps(
        [
            {"name": f"image_{n}", "sha256": "0" * 64, "uri": uri, "request_sha256": None}
            for n, uri in enumerate(addresses, 1)
        ]
    )


def record(
    store: Store,
    records: Iterable[ImageRecord],
    *,
    partition: str = "castle",
    run_id: str = "run-1",
) -> StoredObject:
    """Write the part of one partition of one run."""
    rows = list(records)
    return write_part(
        store,
        rows,
        asset=f"{rows[0].prompt_set}/images",
        partition=partition,
        run_id=run_id,
        day=DAY,
    )


def pack(store: Store, records: Iterable[ImageRecord]) -> None:
    """Write the thumbnails of stored images, as a run does; odd ones as earlier versions did."""
    rows = [row for row in records if row.status is ImageStatus.STORED]
    thumbnails = {}
    for row in rows:
        number = row.seed or 0
        name = "WEBP" if number % 2 else "JPEG"
        thumbnails[row.image_sha256 or ""] = picture(number, (10, 10), name=name)
    write_pack(store, rows[0].prompt_set, thumbnails, day=DAY)
