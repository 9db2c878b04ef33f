"""Records of pictures that were not made, for tests of what is decided by them alone."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from flux_pipeline.image_reader import Image
from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.store.local import FolderStore

NOWHERE = FolderStore(Path("/nowhere"))


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def record(name: str, take: int = 1, output: int = 1, **changes: Any) -> ImageRecord:
    """A stored picture of a prompt; ``output`` is 1-based."""
    values = {
        "image_sha256": sha(f"{name} {take} {output} {changes.get('partition', '')}"),
        "prediction_id": "p",
        "output_index": output - 1,
        "request_sha256": sha(f"request {name} {take}"),
        "prompt_set": "shop",
        "prompt_name": name,
        "take": take,
        "partition": name,
        "model": "m/m",
        "version": "v",
        "prompt": f"a {name}",
        "num_outputs": 1,
        "seed_source": "request",
        "input": "{}",
        "run_id": "r",
        "asset": "shop/images",
        "config_path": "",
        "config_sha256": "",
        "code_version": "",
        "status": ImageStatus.STORED,
        "format": "webp",
        "width": 100,
        "height": 100,
        "bytes": 1000,
    }
    return ImageRecord(**{**values, **changes})


def images(*records: ImageRecord) -> Iterator[Image]:
    return streamed(records)


def streamed(records: Iterable[ImageRecord]) -> Iterator[Image]:
    return (Image(each, each.partition, NOWHERE) for each in records)
