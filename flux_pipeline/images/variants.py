"""Renders the variants of a stored picture: its sizes and formats for the web, labelled as it is.

One decode serves all variants of a picture. The same picture, specs and library versions give the
same bytes, on any machine and from any thread; only a C2PA signature differs each time. Nothing of
the file's metadata is taken over but its label, its creators and rights, and a colour profile where
that is asked for.
"""

import hashlib
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from PIL import ExifTags, Image, ImageCms, ImageFilter, features

from flux_pipeline.errors import ImageError, SigningError
from flux_pipeline.images.appearance import Appearance, describe_appearance
from flux_pipeline.images.c2pa import Edit
from flux_pipeline.images.container import Structure
from flux_pipeline.images.formats import CONTAINERS, read_structure
from flux_pipeline.images.geometry import Placement, Size, place
from flux_pipeline.images.inspection import (
    DECODER_ERRORS,
    MAX_PIXELS,
    PILLOW_NAMES,
    averageable,
    bounded_memory,
)
from flux_pipeline.images.labels import Label, derived_packet, parse_packet
from flux_pipeline.images.signing import ManifestSigner
from flux_pipeline.variant import (
    FORMATS,
    MAX_SIDE,
    MAX_VARIANT_PIXELS,
    VariantSpec,
    find_mistakes,
)

_REDUCING_GAP: Final = 3.0
"""Pillow's own value for a fast shrink that can't be told from a slow one."""
_APPEARANCE_SIDE: Final = 64
_SHARPEN_RADIUS: Final = 0.8
"""px; of the variant, so that it acts on what the shrinking has softened."""
_SOLID: Final = 255
_WHITE: Final = "#ffffff"
_PREMULTIPLIED: Final = {"RGBA": "RGBa", "LA": "La"}
_CODECS: Final = {"webp": "webp", "avif": "avif", "jpg": "jpg", "png": "zlib"}
"""Pillow's names of what it needs for each format."""
ENCODERS: Final = {"webp": "WEBP", "avif": "AVIF", "jpg": "JPEG", "png": "PNG"}
"""Pillow's names of the formats, and what it is told for each."""
ENCODER_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "webp": {"method": 4},
    # One thread and no tiles: both depend on the machine, and change the bytes.
    "avif": {"speed": 6, "max_threads": 1, "autotiling": False},
    "jpg": {"optimize": True, "progressive": True, "subsampling": "4:2:0"},
    # Level 9 takes six times the CPU for 6 % of the bytes.
    "png": {"compress_level": 6},
}
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, for each EXIF orientation but 1."""
_COLOUR_SPACES: Final = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
"""What a profile must be for, to be one for pixels of this mode."""


@dataclass(frozen=True, slots=True)
class RenderedVariant:
    """One variant as the bytes of a file."""

    spec: VariantSpec
    data: bytes = field(repr=False)
    width: int
    """px"""
    height: int
    """px"""
    sha256: str
    """64 hex digits, of ``data``."""
    edits: tuple[Edit, ...] = ()
    """What was done to the picture; a signature says it too."""
    notes: tuple[str, ...] = ()
    """A clause for each thing that is not as asked, such as a picture too small for its box."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """The variants of one picture, in the order of their specs, and how the picture looks."""

    variants: tuple[RenderedVariant, ...]
    appearance: Appearance


def render_variants(
    data: bytes,
    specs: Sequence[VariantSpec],
    *,
    picture: str = "picture",
    sidecar: bytes | None = None,
    signer: ManifestSigner | None = None,
) -> Rendering:
    """Render all variants of a stored picture: one whole still webp, jpg or png. It blocks.

    ``picture`` names it in errors. ``sidecar`` is the XMP packet of a picture that was stored as it
    came: its label is that one then, and not the file's own. With ``signer`` each file is signed as
    an edit of ``data``. Of pictures above 16 megapixels one is in memory at a time: at most 360 MB,
    and twice that with alpha.

    Raises:
        ImageError: The picture is broken, animated, no webp, jpg or png, or larger than 89
            megapixels; or one of the variants can't be made of it.
        SigningError: A file could not be signed.
    """
    check_specs(specs)
    try:
        structure = _still(data)
        own = CONTAINERS[structure.image_format].read_xmp(data, structure) or b""
        packet = derived_packet(sidecar or own, own=own)
        with bounded_memory(_most_pixels(structure, specs)):
            source = _decode(data, structure)
            rendered = [_render(source, spec, packet) for spec in specs]
            appearance = describe_appearance(_small_picture(source))
            del source
        if signer is not None:  # not within the bound: a timestamp authority may take its time
            label = parse_packet(packet or b"") or Label()
            rendered = [_signed(each, signer, label, data) for each in rendered]
    except (ImageError, SigningError) as error:
        raise type(error)(f"{picture}: {error}") from error
    return Rendering(tuple(rendered), appearance)


def check_specs(specs: Sequence[VariantSpec]) -> None:
    """Pass where this machine can render these variants; call it before anything is written.

    Raises:
        ImageError: All mistakes of the specs, and all formats that this Pillow can't write.
    """
    mistakes = [
        f"variant {spec.name}: {key} {mistake}"
        for spec in specs
        for key, mistake in find_mistakes(spec)
    ]
    missing = {
        spec.format
        for spec in specs
        if spec.format in _CODECS and not features.check(_CODECS[spec.format])
    }
    mistakes += [
        f"{each} can't be written by this build of Pillow: install Pillow's own wheel"
        " (pip install --force-reinstall --only-binary=:all: pillow), or choose another format"
        for each in sorted(missing)
    ]
    if mistakes:
        raise ImageError("; ".join(mistakes))


def _still(data: bytes) -> Structure:
    """The structure of one whole still picture of a bearable size. Raises ImageError."""
    found = read_structure(data, checksums=True)
    if found.animated:
        raise ImageError(f"{found.image_format} is animated: variants are made of still pictures")
    if found.width * found.height > MAX_PIXELS:
        raise ImageError(
            f"{found.image_format} of {found.width} x {found.height} px:"
            f" more than {MAX_PIXELS:,} px"
        )
    return found


def _most_pixels(structure: Structure, specs: Sequence[VariantSpec]) -> int:
    """How many the largest picture has that is held, whichever way this one is turned."""
    sizes = ((structure.width, structure.height), (structure.height, structure.width))
    canvases = [place(size, spec).canvas for size in sizes for spec in specs]
    return max(math.prod(size) for size in (*sizes, *canvases))


class _Source:
    """A decoded picture, upright and in a mode whose numbers may be averaged."""

    def __init__(
        self,
        image: Image.Image,
        image_format: str,
        profile: "_Profile | None",
        *,
        turned: bool,
    ) -> None:
        self.size = image.size
        self.image_format = image_format
        self.profile = profile
        self.turned = turned
        """Whether it lay on its side or was mirrored, by its EXIF orientation."""
        self._image = image
        self._premultiplied: Image.Image | None = None

    def scaled(self, placement: Placement) -> Image.Image:
        """A part of the picture at the size of its placement."""
        left, top, right, bottom = placement.part
        if placement.size == (right - left, bottom - top):
            width, height = placement.size  # two halves would be rounded apart
            left, top = round(left), round(top)
            return self._image.crop((left, top, left + width, top + height))
        scaled = self._averageable().resize(
            placement.size,
            self._filter(placement),
            box=placement.part,
            reducing_gap=_REDUCING_GAP,
        )
        return scaled if scaled.mode == self._image.mode else scaled.convert(self._image.mode)

    def _filter(self, placement: Placement) -> Image.Resampling:
        """The sharpest filter; with alpha one without overshoot, which would draw a bright rim."""
        if self._image.mode not in _PREMULTIPLIED:
            return Image.Resampling.LANCZOS
        return Image.Resampling.HAMMING if placement.scale < 1 else Image.Resampling.BILINEAR

    def _averageable(self) -> Image.Image:
        """The picture with its colours times alpha, so that clear pixels don't tint their edges."""
        mode = _PREMULTIPLIED.get(self._image.mode)
        if mode is None:
            return self._image
        if self._premultiplied is None:
            self._premultiplied = self._image.convert(mode)
        return self._premultiplied


def _decode(data: bytes, structure: Structure) -> _Source:
    """Decode a picture, once for all its variants. Raises ImageError.

    A jpg is not decoded at a fraction of its size, though that is faster for small variants alone:
    the bytes of a variant would depend on the others that are made with it.
    """
    name = PILLOW_NAMES[structure.image_format]
    try:
        with Image.open(io.BytesIO(data), formats=[name]) as opened:
            opened.load()
            turn = _turn(opened)
            icc = opened.info.get("icc_profile")
            image = _without_empty_alpha(averageable(opened))
    except DECODER_ERRORS as error:
        raise ImageError(
            f"{structure.image_format} of {len(data)} bytes does not decode"
            f" ({type(error).__name__})"
        ) from error
    if turn is not None:
        image = image.transpose(turn)
    profile = _read_profile(icc, image.mode)
    return _Source(image, structure.image_format, profile, turned=turn is not None)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What makes a loaded picture upright; None where it is, and where its EXIF can't be read."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except DECODER_ERRORS:
        return None
    return _TURNS.get(orientation or 1)


def _without_empty_alpha(image: Image.Image) -> Image.Image:
    """Without the alpha channel of a picture that is opaque all over."""
    if image.mode in _PREMULTIPLIED and image.getchannel("A").getextrema()[0] == _SOLID:
        return image.convert(image.mode.removesuffix("A"))
    return image


@dataclass(frozen=True, slots=True)
class _Profile:
    """The colour profile of a picture, where it is fit for its pixels."""

    icc: bytes
    parsed: ImageCms.ImageCmsProfile
    is_srgb: bool


def _read_profile(icc: bytes | None, mode: str) -> _Profile | None:
    """None without a profile, for a broken one and one that is for other pixels, as browsers do."""
    if not icc:
        return None
    try:
        parsed = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    except (OSError, ImageCms.PyCMSError):
        return None
    if parsed.profile.xcolor_space.strip() != _COLOUR_SPACES.get(mode.removesuffix("A")):
        return None
    name = parsed.profile.profile_description or ""
    return _Profile(icc, parsed, is_srgb=name.startswith("sRGB"))


def _render(source: _Source, spec: VariantSpec, packet: bytes | None) -> RenderedVariant:
    """Scale, convert, sharpen, place and encode one variant. Raises ImageError."""
    placement = place(source.size, spec)
    _check_size(placement.canvas, spec)
    image = source.scaled(placement)
    kept = source.profile if spec.colors == "keep" and image.mode in {"RGB", "RGBA"} else None
    if kept is None:
        image = _in_srgb(image, source.profile)
    if image.mode in _PREMULTIPLIED and (spec.background or not FORMATS[spec.format].has_alpha):
        image = _on_ground(image, spec.background or _WHITE)
    if _is_sharpened(placement, spec):
        image = _sharpened(image, spec.sharpen)
    if placement.canvas != placement.size:
        image = _on_canvas(image, placement, spec)
    data = _encode(image, spec, kept.icc if kept else None, packet)
    return RenderedVariant(
        spec=spec,
        data=data,
        width=image.width,
        height=image.height,
        sha256=hashlib.sha256(data).hexdigest(),
        edits=tuple(_edits(source, placement, spec)),
        notes=tuple(_notes(source, placement, spec)),
    )


def _check_size(size: Size, spec: VariantSpec) -> None:
    if max(size) > MAX_SIDE or math.prod(size) > MAX_VARIANT_PIXELS:
        raise ImageError(
            f"variant {spec.name} would have {size[0]} x {size[1]} px: at most {MAX_SIDE:,} px a"
            f" side and {MAX_VARIANT_PIXELS:,} px in all; give it both width and height"
        )


def _in_srgb(image: Image.Image, profile: _Profile | None) -> Image.Image:
    """The picture in sRGB; without a profile its numbers are taken for that."""
    if image.mode in _PREMULTIPLIED:
        colours = _in_srgb(image.convert(image.mode.removesuffix("A")), profile)
        colours.putalpha(image.getchannel("A"))
        return colours
    if profile is not None and not profile.is_srgb:
        return _transformed(image, profile)
    return image.convert("RGB") if image.mode == "CMYK" else image


def _transformed(image: Image.Image, profile: _Profile) -> Image.Image:
    try:
        converted = ImageCms.profileToProfile(
            image,
            profile.parsed,
            ImageCms.createProfile("sRGB"),
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except ImageCms.PyCMSError as error:
        raise ImageError(f"its colour profile can't be applied ({error})") from error
    return image if converted is None else converted


def _on_ground(image: Image.Image, colour: str) -> Image.Image:
    """A picture with alpha, on a colour."""
    ground = Image.new("RGB", image.size, colour)
    ground.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return ground


def _is_sharpened(placement: Placement, spec: VariantSpec) -> bool:
    return spec.sharpen > 0 and placement.scale < 1


def _sharpened(image: Image.Image, strength: float) -> Image.Image:
    """Sharpened where it is opaque all around: the colour of a clear pixel is no neighbour's."""
    unsharp = _unsharp_mask(strength)
    if image.mode not in _PREMULTIPLIED:
        return image.filter(unsharp)
    alpha = image.getchannel("A")
    sharp = image.convert(image.mode.removesuffix("A")).filter(unsharp)
    sharp.putalpha(alpha)
    inner = alpha.filter(ImageFilter.MinFilter(3)).point(lambda level: _SOLID * (level == _SOLID))
    return Image.composite(sharp, image, inner)


def _unsharp_mask(strength: float) -> ImageFilter.Kernel:
    """The picture and, times ``strength``, what a blur takes from it.

    In 3 x 3 px, half of the CPU of Pillow's own ``UnsharpMask``, whose blur has any radius.
    """
    blur = [
        math.exp(-(x * x + y * y) / (2 * _SHARPEN_RADIUS**2))
        for y in (-1, 0, 1)
        for x in (-1, 0, 1)
    ]
    weights = [-strength * weight / sum(blur) for weight in blur]
    weights[len(weights) // 2] += 1 + strength
    return ImageFilter.Kernel((3, 3), weights, scale=1)


def _on_canvas(image: Image.Image, placement: Placement, spec: VariantSpec) -> Image.Image:
    """Padded with the background; where there is none, with nothing, or white in a jpg."""
    if spec.background is None and FORMATS[spec.format].has_alpha:
        image, canvas = image.convert("RGBA"), Image.new("RGBA", placement.canvas)
    else:
        colour = spec.background or _WHITE
        image, canvas = image.convert("RGB"), Image.new("RGB", placement.canvas, colour)
    canvas.paste(image, placement.offset)
    return canvas


def _encode(
    image: Image.Image, spec: VariantSpec, icc: bytes | None, packet: bytes | None
) -> bytes:
    """The file with its label and, where it is kept, its profile; with no other metadata."""
    image.info = {}
    options = dict(ENCODER_OPTIONS[spec.format])
    if spec.effective_quality is not None:
        options["quality"] = spec.effective_quality
    if spec.format == "avif" and packet is not None:
        options["xmp"] = packet
    out = io.BytesIO()
    try:
        image.save(out, ENCODERS[spec.format], icc_profile=icc, **options)
    except (OSError, ValueError) as error:
        raise ImageError(
            f"variant {spec.name} can't be encoded as {spec.format} ({error})"
        ) from error
    data = out.getvalue()
    if spec.format == "avif" or packet is None:
        return data
    return CONTAINERS[spec.format].replace_xmp(data, read_structure(data), packet)


def _edits(source: _Source, placement: Placement, spec: VariantSpec) -> Iterator[Edit]:
    """What was done to the picture, in this order."""
    if source.turned:
        yield Edit.ORIENTED
    if placement.is_cut:
        yield Edit.CROPPED
    if placement.scale != 1:
        yield Edit.RESIZED
    if spec.colors == "srgb" and source.profile is not None and not source.profile.is_srgb:
        yield Edit.COLOURS_CONVERTED
    if placement.canvas != placement.size or spec.background is not None:
        yield Edit.PLACED_ON_GROUND
    if _is_sharpened(placement, spec):
        yield Edit.SHARPENED
    yield Edit.ENCODED_ANEW if spec.format == source.image_format else Edit.CONVERTED


def _notes(source: _Source, placement: Placement, spec: VariantSpec) -> Iterator[str]:
    if placement.is_smaller:
        asked = " x ".join(str(side or "any") for side in (spec.width, spec.height))
        yield (
            f"{placement.size[0]} x {placement.size[1]} px in place of {asked}: the picture has"
            f" {source.size[0]} x {source.size[1]} px, and enlarge is not set"
        )


def _small_picture(source: _Source) -> Image.Image:
    spec = VariantSpec(name="small", width=_APPEARANCE_SIDE, height=_APPEARANCE_SIDE)
    small = _in_srgb(source.scaled(place(source.size, spec)), source.profile)
    return small.convert("RGBA" if small.mode in _PREMULTIPLIED else "RGB")


def _signed(
    rendered: RenderedVariant, signer: ManifestSigner, label: Label, original: bytes
) -> RenderedVariant:
    data = signer.sign_edit(rendered.data, label, original=original, edits=rendered.edits)
    return replace(rendered, data=data, sha256=hashlib.sha256(data).hexdigest())
