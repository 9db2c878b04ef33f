"""The laws of fitting a picture into a box, for every size of either."""

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.images.geometry import Placement, Size, place
from flux_pipeline.variant import FOCUS_POINTS, Fit, VariantSpec, find_mistakes

SIDES = st.integers(1, 20_000) | st.sampled_from([1, 2, 3, 320, 1600])
SIZES = st.tuples(SIDES, SIDES)
BOX_SIDES = st.integers(1, 4_000)
FOCUS = st.sampled_from(sorted(FOCUS_POINTS)) | st.tuples(st.floats(0, 1), st.floats(0, 1))


def spec(fit: Fit, width: int | None, height: int | None, **options: object) -> VariantSpec:
    found = VariantSpec(name="v", fit=fit, width=width, height=height, **options)  # type: ignore[arg-type]
    assert find_mistakes(found) == []
    return found


BOXED = st.builds(
    spec,
    st.sampled_from(get_args(Fit)),
    BOX_SIDES,
    BOX_SIDES,
    focus=FOCUS,
    enlarge=st.booleans(),
)
ONE_SIDED = st.builds(
    spec, st.just("inside"), BOX_SIDES, st.none(), enlarge=st.booleans()
) | st.builds(spec, st.just("inside"), st.none(), BOX_SIDES, enlarge=st.booleans())


def box(found: VariantSpec) -> Size:
    assert found.width is not None
    assert found.height is not None
    return found.width, found.height


def is_within(inner: Size, outer: Size) -> bool:
    return inner[0] <= outer[0] and inner[1] <= outer[1]


def shown_size(placement: Placement) -> tuple[float, float]:
    left, top, right, bottom = placement.part
    return right - left, bottom - top


def assert_same_ratio(placement: Placement) -> None:
    """Each side is within a pixel of what the other one asks for."""
    width, height = placement.size
    part_width, part_height = shown_size(placement)
    off = min(
        abs(height - width * part_height / part_width),
        abs(width - height * part_width / part_height),
    )
    assert off <= 1


@given(SIZES, BOXED)
def test_no_variant_exceeds_its_box(picture: Size, asked: VariantSpec) -> None:
    assert is_within(place(picture, asked).canvas, box(asked))


@given(SIZES, BOXED)
def test_cover_and_contain_fill_their_box(picture: Size, asked: VariantSpec) -> None:
    found = place(picture, asked)
    if asked.fit == "contain" or (asked.fit == "cover" and not found.is_smaller):
        assert found.canvas == box(asked)


@given(SIZES, BOXED | ONE_SIDED)
def test_nothing_is_distorted_by_more_than_a_pixel(picture: Size, asked: VariantSpec) -> None:
    assert_same_ratio(place(picture, asked))


@given(SIZES, BOXED | ONE_SIDED)
def test_nothing_is_larger_than_the_picture_unless_asked_for(
    picture: Size, asked: VariantSpec
) -> None:
    found = place(picture, asked)
    if not asked.enlarge:
        assert is_within(found.size, picture)
        assert found.scale <= 1 + 1e-9
    else:
        assert not found.is_smaller


@given(SIZES, BOXED | ONE_SIDED)
def test_what_is_shown_lies_within_the_picture_and_on_the_canvas(
    picture: Size, asked: VariantSpec
) -> None:
    found = place(picture, asked)
    left, top, right, bottom = found.part
    assert 0 <= left < right <= picture[0]
    assert 0 <= top < bottom <= picture[1]
    assert min(found.offset) >= 0
    assert found.offset[0] + found.size[0] <= found.canvas[0]
    assert found.offset[1] + found.size[1] <= found.canvas[1]
    assert min(found.size) >= 1


@given(SIZES, BOXED | ONE_SIDED)
def test_only_cover_cuts_anything_off(picture: Size, asked: VariantSpec) -> None:
    found = place(picture, asked)
    if asked.fit != "cover":
        assert found.part == (0, 0, *picture)
        assert not found.is_cut


@given(SIZES, BOX_SIDES, BOX_SIDES)
def test_inside_touches_its_box(picture: Size, width: int, height: int) -> None:
    found = place(picture, spec("inside", width, height, enlarge=True))
    assert found.size[0] == width or found.size[1] == height


def test_a_picture_in_the_ratio_of_its_box_is_not_cut() -> None:
    found = place((1024, 768), spec("cover", 320, 240))
    assert (found.part, found.is_cut, found.size) == ((0, 0, 1024, 768), False, (320, 240))


def test_the_focus_is_in_the_middle_of_what_is_shown_as_far_as_the_picture_reaches() -> None:
    def shown(focus: object) -> tuple[float, float]:
        left, _, right, _ = place((2000, 500), spec("cover", 100, 100, focus=focus)).part
        return left, right

    assert shown("center") == (750, 1250)
    assert shown("left") == (0, 500)
    assert shown("bottom-right") == (1500, 2000)
    assert shown((0.4, 0.5)) == (550, 1050)
    assert shown((0.05, 0.5)) == (0, 500)


def test_contain_puts_the_picture_where_its_focus_says() -> None:
    assert place((200, 100), spec("contain", 100, 100)).offset == (0, 25)
    assert place((200, 100), spec("contain", 100, 100, focus="bottom")).offset == (0, 50)


def test_a_picture_too_small_for_cover_is_cut_to_the_box_s_ratio_and_not_scaled() -> None:
    found = place((300, 200), spec("cover", 1000, 1000))
    assert (found.size, found.part) == ((200, 200), (50, 0, 250, 200))
    assert found.is_smaller
    assert place((300, 200), spec("cover", 1000, 1000, enlarge=True)).size == (1000, 1000)


def test_without_a_box_a_picture_keeps_its_size() -> None:
    found = place((300, 200), spec("inside", None, None))
    assert (found.size, found.is_smaller) == ((300, 200), False)
