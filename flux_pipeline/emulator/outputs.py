"""Where a prediction's images are: URLs on an origin, or the images themselves as data URIs."""

import base64
import hashlib
from collections.abc import Sequence

from anyio import to_thread
from starlette.requests import Request

from flux_pipeline.emulator.emulator import Emulator
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.pictures.encode import CONTENT_TYPES
from flux_pipeline.emulator.pictures.render import Picture
from flux_pipeline.emulator.records import Record


def file_name(record: Record, index: int) -> str:
    """Such as ``out-3.webp``: the batch number stays, whatever was left out before it."""
    return f"out-{index}.{record.typed_input.output_format}"


def output_url(request: Request, options: EmulatorOptions, record: Record, index: int) -> str:
    """The URL of one image, on the origin that the client asked or the configured one."""
    origin = (
        options.output_origin or f"{request.scope['scheme']}://{request.headers.get('host', '')}"
    )
    url = f"{origin}/output/{record.id}/{file_name(record, index)}"
    if not options.signed_outputs:
        return url
    return f"{url}?X-Signature={hashlib.sha256(url.encode()).hexdigest()}"


async def image_bytes(
    emulator: Emulator, record: Record, index: int, size: tuple[int, int] | None = None
) -> bytes:
    """The file of one image; drawn in a thread, since encoding takes tens of milliseconds."""
    picture = Picture(record.version, record.typed_input, record.plan.seed, index)
    if emulator.options.render == "cheap":
        return picture.file(cheap=True, size=size)
    return await to_thread.run_sync(lambda: picture.file(cheap=False, size=size))


async def data_uri(emulator: Emulator, record: Record, index: int) -> str:
    """One image as a data URI."""
    kind = CONTENT_TYPES[record.typed_input.output_format]
    return f"data:{kind};base64,{await base64_image(emulator, record, index)}"


async def base64_image(emulator: Emulator, record: Record, index: int) -> str:
    """One image in base64."""
    return base64.b64encode(await image_bytes(emulator, record, index)).decode("ascii")


async def output_value(
    emulator: Emulator, request: Request, record: Record, indexes: Sequence[int]
) -> list[str] | str:
    """``output`` in the configured shape: a list of URLs, of data URIs, or a lone string."""
    if emulator.options.output_shape == "data_uri":
        return [await data_uri(emulator, record, index) for index in indexes]
    urls = [output_url(request, emulator.options, record, index) for index in indexes]
    return urls[0] if emulator.options.output_shape == "string" and len(urls) == 1 else urls
