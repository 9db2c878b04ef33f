"""The function of Pixeltable's computed column, in a module of its own, which it asks for."""

import asyncio

import pixeltable as pxt

from benchmarks.peers.prediction import make_image


@pxt.udf
async def image(number: int, origin: str, version: str, folder: str) -> str:
    """One image; as many of them wait at once as Pixeltable starts."""
    return await asyncio.to_thread(make_image, origin, version, folder, number)
