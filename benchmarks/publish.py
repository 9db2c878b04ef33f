"""``python -m benchmarks.publish``: what publishing 1,000, 3,000 and 10,000 pictures takes.

Each number of pictures has a process of its own: the first delivery, then one in which nothing is
changed, into a folder, and with ``--bucket`` into an S3 server. CPU is user and system, a picture;
memory is the peak of the process, after each of the two. Pictures are small, because rendering is
measured by ``benchmarks.variants``; they come from a folder, and records from memory.
"""

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from PIL import Image

from benchmarks import servers
from flux_pipeline.image_reader import Current
from flux_pipeline.images.formats import file_sha256
from flux_pipeline.ledger.base import State
from flux_pipeline.lineage.record import ImageRecord, ImageStatus, records_to_json
from flux_pipeline.prompts import PromptSet, load_prompt_set
from flux_pipeline.publish.delivery import Delivery
from flux_pipeline.publish.renderer import Renderer
from flux_pipeline.publish.selection import publication_of, select_images
from flux_pipeline.store.local import FolderStore
from flux_pipeline.store.open import open_target
from flux_pipeline.store.target import TargetOptions

SET = """
model: lucataco/flux-schnell-lora
partitions: {by: shard, count: 16}
publish:
  name: "{set}/{name}-{variant}.{format}"
  alt: "{title}, studio light"
  variants: {web: {width: 32}, thumb: {width: 16, height: 16, fit: cover, format: png}}
prompts: {product: {prompt: "{title}, studio light", table: products.csv, key: sku}}
"""


def main() -> None:
    """Measure in processes of their own, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bucket", action="store_true", help="Publish into an S3 server.")
    parser.add_argument("--pictures", type=int, help="Measure this many, in this process.")
    parser.add_argument("--to", help="Where to, for --pictures.")
    given = parser.parse_args()
    if given.pictures:
        print(json.dumps(measure(given.pictures, given.to)))
        return
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        place = f"file:{folder}"
        if given.bucket:
            place = stack.enter_context(servers.store(Path(folder)))
        for count in (1_000, 3_000, 10_000):
            measured = [f"--pictures={count}", f"--to={place}/{count}"]
            command = [sys.executable, "-m", "benchmarks.publish", *measured]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            print(
                f"{count:>7,} pictures, {found['files']:,} files: {found['first_ms']:.1f} ms of CPU"
                f" a picture, unchanged {found['again_ms']:.2f} ms; peak {found['first_mb']:.0f}"
                f" and {found['again_mb']:.0f} MB",
                flush=True,
            )


def measure(count: int, to: str) -> Mapping[str, float]:
    """Publish ``count`` pictures twice."""
    with tempfile.TemporaryDirectory() as folder:
        prompt_set = _write_set(Path(folder), count)
        store = FolderStore(Path(folder, "store"))
        ledger = _Ledger(prompt_set, store, _put_picture(store))
        times, peaks = [], []
        for written in (2 * count, 0):
            begun = time.process_time()
            publication = publication_of(prompt_set)
            current = Current(prompt_set, ledger.open)  # type: ignore[arg-type]
            keys = prompt_set.partition_keys()
            selection = select_images(prompt_set, publication, current, None, keys)
            delivered = Delivery(
                prompt_set.name,
                selection,
                open_target(to, TargetOptions(), store_uri=store.uri, default=""),
                Renderer(store, publication.variants),
                now=lambda: datetime(2026, 11, 30, tzinfo=UTC),
            ).run()
            assert (delivered.written, delivered.problems) == (written, []), delivered
            times.append((time.process_time() - begun) * 1000 / count)
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return {
            "files": delivered.files,
            "first_ms": times[0],
            "again_ms": times[1],
            "first_mb": peaks[0],
            "again_mb": peaks[1],
        }


def _write_set(folder: Path, count: int) -> PromptSet:
    rows = "".join(f"SKU-{number:06d},A product no. {number}\n" for number in range(count))
    (folder / "products.csv").write_text(f"sku,title\n{rows}")
    (folder / "shop.yaml").write_text(SET)
    return load_prompt_set(folder / "shop.yaml")


def _put_picture(store: FolderStore) -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(out, "WEBP")
    body = out.getvalue()
    store.put_new("images/shop/a-0.webp", body, content_type="image/webp", metadata={})
    return body


class _Ledger:
    """Stands in for a ledger in which every request is stored, as one and the same file."""

    def __init__(self, prompt_set: PromptSet, store: FolderStore, body: bytes) -> None:
        self._uri = f"{store.uri}/images/shop/a-0.webp"
        self._sha256 = file_sha256(body)
        self._made_at = datetime(2026, 11, 29, tzinfo=UTC)
        self._set = prompt_set.name

    @contextmanager
    def open(self) -> Iterator["_Ledger"]:
        """Give itself."""
        yield self

    def find(self, requests: Iterable[str]) -> Mapping[str, Any]:
        """The attempt of each request."""
        return {
            sha: SimpleNamespace(images=self._images(sha), state=State.STORED) for sha in requests
        }

    def _images(self, request_sha256: str) -> str:
        record = ImageRecord(
            image_sha256=request_sha256,
            file_sha256=self._sha256,
            prediction_id="p",
            output_index=0,
            request_sha256=request_sha256,
            prompt_set=self._set,
            prompt_name="",
            take=1,
            partition="",
            model="m/m",
            version="v",
            prompt="",
            num_outputs=1,
            seed_source="request",
            input="{}",
            run_id="r",
            asset="shop/images",
            config_path="",
            config_sha256="",
            code_version="",
            status=ImageStatus.STORED,
            uri=self._uri,
            format="webp",
            completed_at=self._made_at,
        )
        return records_to_json([record])


if __name__ == "__main__":
    main()
