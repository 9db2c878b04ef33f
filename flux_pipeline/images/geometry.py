"""Computes which part of a picture a variant shows, at what size, and where on its canvas."""

from dataclasses import dataclass
from typing import TypeAlias

from flux_pipeline.variant import VariantSpec

Size: TypeAlias = tuple[int, int]
"""Width and height, px."""
Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom edge, px from the upper left corner."""


@dataclass(frozen=True, slots=True)
class Placement:
    """How one variant is made of a picture."""

    part: Box
    """What is shown of the picture: all of it, unless it is cut."""
    size: Size
    """What that part is scaled to."""
    canvas: Size
    """The variant's own size, at least ``size``."""
    offset: tuple[int, int]
    """px from the canvas's upper left corner to that of the scaled part."""
    is_cut: bool = False
    """Whether ``cover`` cuts something off."""
    is_smaller: bool = False
    """Whether the picture was too small for the box, and was not enlarged."""

    @property
    def scale(self) -> float:
        """How many px of the variant stand for one of the picture, in the denser direction."""
        left, top, right, bottom = self.part
        return max(self.size[0] / (right - left), self.size[1] / (bottom - top))


def place(picture: Size, spec: VariantSpec) -> Placement:
    """The placement of a picture of this size, for a spec without mistakes.

    ``inside`` never exceeds its box, ``cover`` and ``contain`` fill it exactly; but without
    ``enlarge`` a picture that is too small keeps its size, and ``cover`` only cuts it to the box's
    ratio. Sides are rounded to whole px, and are at least 1 px.
    """
    if spec.fit == "cover" and spec.width and spec.height:
        return _cover(picture, (spec.width, spec.height), spec)
    size, is_smaller = _inside(picture, spec)
    canvas = size
    if spec.fit == "contain" and spec.width and spec.height:
        canvas = spec.width, spec.height
    (x, y), free = spec.focus_point, (canvas[0] - size[0], canvas[1] - size[1])
    return Placement(
        part=(0, 0, *picture),
        size=size,
        canvas=canvas,
        offset=(round(x * free[0]), round(y * free[1])),
        is_smaller=is_smaller,
    )


def _inside(picture: Size, spec: VariantSpec) -> tuple[Size, bool]:
    """The largest size within the box, and whether the picture is smaller than that and stays so.

    In whole numbers, so that the side that touches the box is exactly as long.
    """
    width, height = picture
    if spec.width is not None and (
        spec.height is None or spec.width * height <= spec.height * width
    ):
        size = spec.width, max(1, _divided(height * spec.width, width))
    elif spec.height is not None:
        size = max(1, _divided(width * spec.height, height)), spec.height
    else:
        return picture, False
    is_larger = size[0] > width or size[1] > height
    return (picture, True) if is_larger and not spec.enlarge else (size, False)


def _cover(picture: Size, box: Size, spec: VariantSpec) -> Placement:
    part = _largest_part(picture, box)
    size, is_smaller = box, False
    if not spec.enlarge and (part[0] < box[0] or part[1] < box[1]):
        size = (max(1, round(part[0])), max(1, round(part[1])))
        part, is_smaller = (float(size[0]), float(size[1])), True
    left, top = (
        _start(focus, side, whole)
        for focus, side, whole in zip(spec.focus_point, part, picture, strict=True)
    )
    if is_smaller:  # whole px: nothing is scaled, so nothing is blurred
        left, top = round(left), round(top)
    return Placement(
        part=(left, top, min(left + part[0], picture[0]), min(top + part[1], picture[1])),
        size=size,
        canvas=size,
        offset=(0, 0),
        is_cut=part != picture,
        is_smaller=is_smaller,
    )


def _largest_part(picture: Size, box: Size) -> tuple[float, float]:
    """Width and height of the largest part with the box's ratio."""
    width, height = picture
    if box[0] * height >= box[1] * width:
        return width, width * box[1] / box[0]
    return height * box[0] / box[1], height


def _start(focus: float, part: float, whole: int) -> float:
    """Where a part starts that has the focus in its middle, as far as the picture reaches."""
    return min(max(focus * whole - part / 2, 0), whole - part)


def _divided(dividend: int, divisor: int) -> int:
    """The quotient, rounded to the nearest."""
    return (2 * dividend + divisor) // (2 * divisor)
