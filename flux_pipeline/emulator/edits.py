"""What models make of a picture: enlarged, cut out of its background, or visibly edited.

The results are placeholders, but the picture that went in is recognised in each of them.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from flux_pipeline.emulator import chance
from flux_pipeline.emulator.files import FetchedPicture
from flux_pipeline.emulator.jobs import Job
from flux_pipeline.emulator.pictures import encode, tagged
from flux_pipeline.emulator.scenes import Colour, draw, palette_for

MOST_PIXELS = 80_000_000
"""Larger results fail: a model would run out of memory."""
LONGEST_SIDE = 16_383
"""px; WebP holds no more."""
_WORK_SIDE = 256
"""px; masks are made small, since their edges are soft anyway."""


@dataclass(frozen=True, slots=True)
class Result:
    """One output of a model with a contract, by all that it depends on."""

    job: Job = field(hash=False)
    seed: int
    index: int
    """Batch number, from 0."""
    sources: tuple[FetchedPicture, ...] = ()
    """What the pictures that went in are; the first is the one that is changed."""

    def digest(self) -> bytes:
        """32 bytes that name the picture, whatever its format and quality."""
        went_in = [source.sha256 for source in self.sources]
        return chance.digest(self.job.look, self.seed, self.index, *went_in)

    def size(self) -> tuple[int, int]:
        """Width and height, px."""
        return result_size(self.job, self.sources)

    def cheap_file(self, size: tuple[int, int] | None = None) -> bytes:
        """A plain file of the right size and format, made distinct by a tag."""
        return tagged(size or self.size(), self.job.output_format, self.digest())

    def file(self, contents: Sequence[bytes], size: tuple[int, int] | None = None) -> bytes:
        """The encoded file; ``contents`` are those of the sources."""
        wanted = size or self.size()
        if not contents or self.job.task == "draw":
            image = draw(self.digest(), self.job.prompt, wanted)
            return encode(image, self.job.output_format, self.job.output_quality)
        opened = [Image.open(io.BytesIO(content)) for content in contents]
        source = opened[0].convert("RGBA" if _has_alpha(opened[0]) else "RGB")
        resized = source.resize(wanted, Image.Resampling.BICUBIC)
        match self.job.task:
            case "cut_out":
                image = cut_out(resized)
            case "edit":
                image = edit(resized, self.digest(), self.job.prompt, opened[1:])
            case _:
                image = resized
        if self.job.output_format == "jpg":
            image = image.convert("RGB")
        return encode(image, self.job.output_format, self.job.output_quality)


def result_size(job: Job, sources: Sequence[FetchedPicture]) -> tuple[int, int]:
    """Width and height of a job's results, px; they may be too many (``MOST_PIXELS``)."""
    if job.asked_size is not None or not sources:
        return job.size
    width, height = sources[0].width, sources[0].height
    return max(1, round(width * job.factor)), max(1, round(height * job.factor))


def cut_out(image: Image.Image) -> Image.Image:
    """The middle of a picture, with a soft edge, on a transparent ground."""
    mask = Image.new("L", (_WORK_SIDE, _WORK_SIDE))
    edge = _WORK_SIDE // 8
    ImageDraw.Draw(mask).ellipse((edge, edge, _WORK_SIDE - edge, _WORK_SIDE - edge), fill=255)
    mask = mask.filter(ImageFilter.GaussianBlur(3)).resize(image.size, Image.Resampling.BILINEAR)
    alone = image.convert("RGB")
    alone.putalpha(mask)
    return alone


def edit(
    image: Image.Image, digest: bytes, prompt: str, others: Sequence[Image.Image] = ()
) -> Image.Image:
    """A picture in the colours that the prompt asks for, with further pictures inset."""
    palette = palette_for(prompt, np.random.default_rng(int.from_bytes(digest, "big")))
    dark, light = palette.bright(0), palette.hour.light
    grey = ImageOps.autocontrast(image.convert("L"))
    toned = ImageOps.colorize(
        grey, black=_hex(dark, 0.25), mid=_hex(palette.bright(0.5)), white=_hex(light)
    )
    edited = Image.blend(image.convert("RGB"), toned, 0.6)
    side = max(8, min(image.size) // 4)
    for place, other in enumerate(others):
        inset = ImageOps.fit(other.convert("RGB"), (side, side))
        edited.paste(inset, (place * (side + 4) % image.width, image.height - side))
    return edited


def _has_alpha(image: Image.Image) -> bool:
    return "A" in image.getbands() or "transparency" in image.info


def _hex(colour: Colour, factor: float = 1.0) -> str:
    return "#" + "".join(f"{min(255, max(0, round(part * factor))):02x}" for part in colour)
