"""A bare loop, the baseline of the overhead benchmark: POST, poll, GET, decode, PUT, no records.

It uses the fastest libraries: aiohttp for both clients, threads for decoding and storing. Its
allocator is set as ours is, or a third of its CPU would be the kernel's, for handing out pages; and
it decodes as ours does, without the copy that Pillow makes.
"""

import asyncio
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
from PIL import Image

from benchmarks.work import CONCURRENCY, make_requests
from flux_pipeline.images.allocator import keep_freed_memory
from flux_pipeline.images.inspection import decode_opaque_webp

_FIRST_POLL, _NEXT_POLL = 0.3, 0.1  # s
_THREADS = 8


class BareLoop:
    """Runs rounds against one provider and one store."""

    def __init__(self, origin: str, store: str, folder: Path) -> None:
        del folder
        keep_freed_memory()
        self._predictions = f"{origin}/v1/predictions"
        self._put = _open_store(store)

    def run(self, round_name: str, count: int) -> None:
        """Make and store ``count`` images."""
        asyncio.run(self._run(round_name, count))

    async def _run(self, round_name: str, count: int) -> None:
        bodies = [request.body() for request in make_requests(round_name, count)]
        slots = asyncio.Semaphore(CONCURRENCY)
        connector = aiohttp.TCPConnector(limit=CONCURRENCY)
        with ThreadPoolExecutor(_THREADS) as threads:
            async with aiohttp.ClientSession(connector=connector) as session:

                async def one(number: int, body: object) -> None:
                    async with slots:
                        image = await self._make(session, body)
                        loop = asyncio.get_running_loop()
                        key = f"bare/{round_name}-{number:04d}.webp"
                        await loop.run_in_executor(threads, self._keep, key, image)

                await asyncio.gather(*(one(number, body) for number, body in enumerate(bodies)))

    async def _make(self, session: aiohttp.ClientSession, body: object) -> bytes:
        key = {"authorization": "Bearer benchmark"}
        async with session.post(self._predictions, json=body, headers=key) as reply:
            prediction = await reply.json()
        wait = _FIRST_POLL
        while prediction["status"] in {"starting", "processing"}:
            await asyncio.sleep(wait)
            wait = _NEXT_POLL
            url = f"{self._predictions}/{prediction['id']}"
            async with session.get(url, headers=key) as reply:
                prediction = await reply.json()
        async with session.get(prediction["output"][0]) as reply:
            return await reply.read()

    def _keep(self, key: str, image: bytes) -> None:
        with Image.open(io.BytesIO(image)) as decoded:
            decode_opaque_webp(decoded)
        self._put(key, image)


def _open_store(store: str) -> Callable[[str, bytes], object]:
    if not store.startswith("s3://"):
        root = Path(store.removeprefix("file:"))
        (root / "bare").mkdir(parents=True, exist_ok=True)
        return lambda key, body: (root / key).write_bytes(body)
    import boto3  # noqa: PLC0415  the folder needs none
    from botocore.config import Config  # noqa: PLC0415

    quickest = Config(
        max_pool_connections=_THREADS,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    client = boto3.client("s3", config=quickest)
    bucket = store.removeprefix("s3://").partition("/")[0]
    return lambda key, body: client.put_object(
        Bucket=bucket, Key=key, Body=body, ContentType="image/webp"
    )
