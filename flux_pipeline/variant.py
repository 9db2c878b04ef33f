"""One variant of a published picture: its size, fit, format and quality, with ranges and defaults.

The prompt set's reader and the renderer (``images/variants.py``) both take these from here.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

Fit: TypeAlias = Literal["cover", "contain", "inside"]
Format: TypeAlias = Literal["webp", "avif", "jpg", "png"]
Colors: TypeAlias = Literal["srgb", "keep"]
FITS: Final[tuple[Fit, ...]] = get_args(Fit)
COLORS: Final[tuple[Colors, ...]] = get_args(Colors)
FOCUS_POINTS: Final[Mapping[str, tuple[float, float]]] = {
    "center": (0.5, 0.5),
    "top": (0.5, 0.0),
    "bottom": (0.5, 1.0),
    "left": (0.0, 0.5),
    "right": (1.0, 0.5),
    "top-left": (0.0, 0.0),
    "top-right": (1.0, 0.0),
    "bottom-left": (0.0, 1.0),
    "bottom-right": (1.0, 1.0),
}
"""Fractions of width and height, from the upper left corner."""
MIN_SIDE: Final = 1
MAX_SIDE: Final = 16_383
"""px: the most that a webp can have; one limit for all formats, so that they can be exchanged."""
MAX_VARIANT_PIXELS: Final = 89_478_485
"""px, of one variant: as many as an image may have that was made (``images.inspection``)."""
MIN_QUALITY: Final = 1
MAX_QUALITY: Final = 100
MAX_SHARPEN: Final = 2.0
DEFAULT_SHARPEN: Final = 0.4
"""What ``sharpen: true`` means: about what a photo editor calls "for screen, standard"."""
COLOR: Final = re.compile(r"#[0-9a-fA-F]{6}")
RENDERER: Final = 1
"""Counted up when the renderer makes other pixels of the same picture and variant. It is part of
``digest``, so that what was published is made anew then; a new version of a library is not."""


@dataclass(frozen=True, slots=True)
class VariantFormat:
    """One file format that a picture can be published in."""

    content_type: str
    extension: str
    """Without a dot."""
    default_quality: int | None
    """1 to 100 on the format's own scale, such that all look alike; None: always lossless."""
    has_alpha: bool
    """Whether it can hold transparency."""


FORMATS: Final[Mapping[str, VariantFormat]] = {
    "webp": VariantFormat("image/webp", "webp", 80, has_alpha=True),
    "avif": VariantFormat("image/avif", "avif", 63, has_alpha=True),
    "jpg": VariantFormat("image/jpeg", "jpg", 82, has_alpha=False),
    "png": VariantFormat("image/png", "png", None, has_alpha=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantSpec:
    """How one variant is made of a picture. ``find_mistakes`` says what is wrong with one.

    Without ``width`` and ``height`` the picture keeps its size.
    """

    name: str
    width: int | None = None
    """px, of the box that the variant fits; None: as follows from the height."""
    height: int | None = None
    """px; None: as follows from the width."""
    fit: Fit = "inside"
    """``inside``: as large as fits into the box, nothing cut. ``cover``: fills the box exactly, and
    what sticks out is cut. ``contain``: as ``inside``, and padded to exactly the box."""
    focus: str | tuple[float, float] = "center"
    """What ``cover`` keeps in view, and where ``contain`` puts the picture: a name of
    ``FOCUS_POINTS``, or fractions of width and height (0 to 1), from the upper left corner."""
    format: Format = "webp"
    quality: int | None = None
    """1 to 100; None: the format's default. png is always lossless."""
    background: str | None = None
    """``#rrggbb`` that the picture is put on. None: transparency is kept, and is what ``contain``
    pads with; white in a jpg."""
    sharpen: float = DEFAULT_SHARPEN
    """Strength of the sharpening after shrinking, 0 (none) to 2."""
    enlarge: bool = False
    """Whether a smaller picture is enlarged. If not, it keeps its size: ``cover`` cuts it to the
    box's ratio, ``contain`` pads it to the box, and the rendered variant says so."""
    colors: Colors = "srgb"
    """``srgb``: converted, without a profile. ``keep``: the picture's own profile stays in the
    file; CMYK and grey ones are converted all the same, because browsers don't show them alike."""

    @property
    def focus_point(self) -> tuple[float, float]:
        """Fractions of width and height, from the upper left corner."""
        return FOCUS_POINTS[self.focus] if isinstance(self.focus, str) else self.focus

    @property
    def effective_quality(self) -> int | None:
        """1 to 100, or None for a lossless format."""
        default = FORMATS[self.format].default_quality
        return default if default is None or self.quality is None else self.quality

    @property
    def content_type(self) -> str:
        """``image/webp`` and so on."""
        return FORMATS[self.format].content_type

    @property
    def extension(self) -> str:
        """Of the file's name, without a dot."""
        return FORMATS[self.format].extension

    def digest(self) -> str:
        """16 hex digits that change with whatever changes the file, so not with the name."""
        made_by = [
            RENDERER,
            self.width,
            self.height,
            self.fit,
            [float(part) for part in self.focus_point],
            self.format,
            self.effective_quality,
            self.background and self.background.lower(),
            float(self.sharpen),
            self.enlarge,
            self.colors,
        ]
        return hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:16]


def find_mistakes(spec: VariantSpec) -> list[tuple[str, str]]:
    """Each mistake as the field's name and what is wrong, in words that continue that name."""
    mistakes = [*_find_size_mistakes(spec)]
    if spec.fit not in FITS:
        mistakes.append(("fit", f"must be {_one_of(FITS)}"))
    if spec.format not in FORMATS:
        mistakes.append(("format", f"must be {_one_of(tuple(FORMATS))}"))
    elif spec.quality is not None:
        if FORMATS[spec.format].default_quality is None:
            mistakes.append(("quality", f"has no meaning in a {spec.format}, which is lossless"))
        elif not MIN_QUALITY <= spec.quality <= MAX_QUALITY:
            mistakes.append(("quality", f"must be {MIN_QUALITY} to {MAX_QUALITY}"))
    if spec.colors not in COLORS:
        mistakes.append(("colors", f"must be {_one_of(COLORS)}"))
    if spec.background is not None and not COLOR.fullmatch(spec.background):
        mistakes.append(("background", 'must be a colour such as "#ffffff", in quotes'))
    if not 0 <= spec.sharpen <= MAX_SHARPEN:
        mistakes.append(("sharpen", f"must be true, false or 0 to {MAX_SHARPEN:g}"))
    if not _is_focus(spec.focus):
        names = _one_of(tuple(FOCUS_POINTS))
        mistakes.append(("focus", f"must be {names}, or two fractions such as [0.5, 0.2]"))
    return mistakes


def _find_size_mistakes(spec: VariantSpec) -> list[tuple[str, str]]:
    mistakes = [
        (key, f"must be {MIN_SIDE} to {MAX_SIDE:,} px")
        for key, side in (("width", spec.width), ("height", spec.height))
        if side is not None and not MIN_SIDE <= side <= MAX_SIDE
    ]
    if spec.fit in {"cover", "contain"} and (spec.width is None or spec.height is None):
        mistakes.append(("fit", f"{spec.fit} needs both width and height"))
    if not mistakes and (spec.width or 1) * (spec.height or 1) > MAX_VARIANT_PIXELS:
        mistakes.append(("width", f"times height must be at most {MAX_VARIANT_PIXELS:,} px"))
    return mistakes


def _is_focus(focus: str | tuple[float, float]) -> bool:
    if isinstance(focus, str):
        return focus in FOCUS_POINTS
    return all(0 <= part <= 1 for part in focus)


def _one_of(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
