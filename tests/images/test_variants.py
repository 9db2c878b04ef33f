"""Variants of real files of every kind: sizes, colours, alpha, and what can't be rendered."""

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, features

from flux_pipeline.errors import ImageError
from flux_pipeline.images.formats import file_sha256
from flux_pipeline.images.geometry import place
from flux_pipeline.images.inspection import inspect_image
from flux_pipeline.images.variants import RenderedVariant, check_specs, render_variants
from flux_pipeline.variant import FORMATS, VariantSpec
from tests.images.samples import (
    animations,
    encode,
    exif,
    icc,
    picture,
    repair,
    samples,
    translucent,
)

INSIDE = VariantSpec(name="inside", width=30, format="webp")
COVER = VariantSpec(name="cover", width=20, height=24, fit="cover", format="jpg")
CONTAIN = VariantSpec(name="contain", width=40, height=40, fit="contain", format="png")
SPECS = [INSIDE, COVER, CONTAIN, replace(COVER, name="avif", format="avif")]
EXACT = VariantSpec(name="exact", format="png", sharpen=0)


def render(body: bytes, spec: VariantSpec) -> RenderedVariant:
    (found,) = render_variants(body, [spec]).variants
    return found


def opened(rendered: RenderedVariant) -> Image.Image:
    image = Image.open(io.BytesIO(rendered.data))
    image.load()
    return image


def array(rendered: RenderedVariant, mode: str = "RGB") -> npt.NDArray[np.int64]:
    return np.asarray(opened(rendered).convert(mode)).astype(np.int64)


def colour_at(rendered: RenderedVariant, x: int, y: int, mode: str = "RGB") -> tuple[int, ...]:
    found = opened(rendered).convert(mode).getpixel((x, y))
    assert isinstance(found, tuple)
    return tuple(map(int, found))


def is_exactly(rendered: RenderedVariant, image: Image.Image) -> bool:
    return np.array_equal(array(rendered), np.asarray(image))


def test_every_kind_of_file_gives_every_format_and_the_same_bytes_twice(
    name: str, body: bytes
) -> None:
    rendering = render_variants(body, SPECS, picture=name)

    for found in rendering.variants:
        image = opened(found)
        assert image.size == (found.width, found.height)
        assert image.format == {"jpg": "JPEG"}.get(found.spec.format, found.spec.format.upper())
    assert [(v.width, v.height) for v in rendering.variants][1:] == [(20, 24), (40, 40), (20, 24)]
    assert rendering == render_variants(body, SPECS, picture=name)


def test_a_variant_s_bytes_don_t_depend_on_the_others_nor_on_the_thread() -> None:
    body = encode(picture(640, 480), "JPEG")
    specs = [replace(spec, name=f"{spec.name}-{n}") for n in range(3) for spec in SPECS]
    with ThreadPoolExecutor(4) as threads:
        alone = list(threads.map(lambda spec: render(body, spec), specs))

    assert alone == list(render_variants(body, specs).variants)


def test_what_is_rendered_is_a_whole_file_by_the_rules_for_stored_images() -> None:
    body = encode(translucent(picture()), "PNG")
    for spec in (INSIDE, COVER, CONTAIN):
        found = render(body, spec)
        seen = inspect_image(
            found.data, image_format=spec.format, width=found.width, height=found.height
        )
        assert (seen.flags, file_sha256(found.data)) == ((), found.sha256)


SIDES = st.integers(1, 70)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(SIDES, SIDES),
    st.builds(
        VariantSpec,
        name=st.just("v"),
        width=SIDES,
        height=SIDES,
        fit=st.sampled_from(["cover", "contain", "inside"]),
        format=st.sampled_from(["webp", "jpg", "png"]),
        focus=st.tuples(st.floats(0, 1), st.floats(0, 1)),
        enlarge=st.booleans(),
        background=st.sampled_from([None, "#102030"]),
    ),
    st.sampled_from(["RGB", "RGBA", "L", "LA"]),
)
def test_the_file_has_the_size_that_was_computed(
    size: tuple[int, int], spec: VariantSpec, mode: str
) -> None:
    body = encode(translucent(picture(*size)).convert(mode), "PNG")
    assert opened(render(body, spec)).size == place(size, spec).canvas


@pytest.mark.parametrize("width", [3, 4])
def test_a_part_that_begins_at_half_a_pixel_is_as_wide_as_was_computed(width: int) -> None:
    spec = replace(EXACT, width=width, height=1, fit="cover", focus=(0.5, 0.5))
    for length in range(width, width + 8):
        assert opened(render(encode(picture(length, 1), "PNG"), spec)).size == (width, 1)


def test_a_picture_too_small_for_its_box_stays_as_it_is_and_that_is_said() -> None:
    body = samples()["rgb.png"]
    found = render(body, replace(EXACT, width=600, height=450))

    assert (found.width, found.height) == (60, 45)
    assert is_exactly(found, picture())
    assert found.notes == (
        "60 x 45 px in place of 600 x 450: the picture has 60 x 45 px, and enlarge is not set",
    )
    larger = render(body, replace(EXACT, width=600, height=450, enlarge=True))
    assert (larger.width, larger.height, larger.notes) == (600, 450, ())


def test_cover_shows_what_is_in_focus() -> None:
    halves = Image.new("RGB", (100, 50), "red")
    halves.paste("blue", (50, 0, 100, 50))
    body = encode(halves, "PNG")
    cover = replace(EXACT, width=20, height=20, fit="cover")

    assert colour_at(render(body, replace(cover, focus="left")), 15, 10) == (255, 0, 0)
    assert colour_at(render(body, replace(cover, focus="right")), 4, 10) == (0, 0, 255)
    middle = render(body, cover)
    assert (colour_at(middle, 2, 10), colour_at(middle, 17, 10)) == ((255, 0, 0), (0, 0, 255))


class TestOrientation:
    """EXIF turns the picture, and the tag itself is gone, or a browser would turn it again."""

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
    def test_the_picture_is_upright(self, orientation: int, image_format: str) -> None:
        upright = Image.new("RGB", (64, 48), "white")
        ImageDraw.Draw(upright).rectangle((0, 0, 31, 23), fill="red")  # its upper left quarter
        inverse = {
            1: None,
            2: Image.Transpose.FLIP_LEFT_RIGHT,
            3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_90,
            7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270,
        }[orientation]
        stored = upright if inverse is None else upright.transpose(inverse)
        tags = Image.Exif()
        tags[0x0112] = orientation
        found = render(encode(stored, image_format, exif=tags), replace(EXACT, width=32))

        assert (found.width, found.height) == (32, 24)
        assert np.abs(array(found)[3:9, 3:13] - [255, 0, 0]).max() < 20
        assert array(found)[15:, 19:].min() > 235

    def test_nothing_of_the_metadata_is_left(self) -> None:
        body = encode(picture(), "JPEG", exif=exif(), comment=b"private", dpi=(300, 300))
        for image_format in FORMATS:
            found = render(body, replace(INSIDE, format=image_format))  # type: ignore[arg-type]
            image = opened(found)
            assert not image.getexif()
            assert not {"exif", "comment", "dpi", "icc_profile", "xmp"} & set(image.info)

    def test_exif_that_can_t_be_read_turns_nothing(self) -> None:
        body = encode(picture(), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
        assert render(body, EXACT).width == 60


class TestTransparency:
    CLEAR = encode(translucent(picture(64, 64)), "PNG")

    def test_it_is_kept_where_the_format_has_it(self) -> None:
        for image_format in ("webp", "avif", "png"):
            found = render(self.CLEAR, replace(INSIDE, format=image_format))  # type: ignore[arg-type]
            alpha = array(found, "RGBA")[:, :, 3]
            assert alpha[0].max() < 12
            assert alpha[-1].min() > 240

    def test_a_jpg_is_put_on_white_or_on_its_background(self) -> None:
        jpg = replace(INSIDE, format="jpg", quality=95)
        assert array(render(self.CLEAR, jpg))[0].min() > 235
        dark = array(render(self.CLEAR, replace(jpg, background="#000000")))[0]
        assert dark.max() < 20

    def test_a_background_takes_transparency_out_of_every_format(self) -> None:
        found = opened(render(self.CLEAR, replace(INSIDE, background="#336699")))
        assert found.mode == "RGB"

    def test_clear_pixels_don_t_colour_their_neighbours(self) -> None:
        """The green below a clear pixel is of no meaning: many programs leave white or black."""
        cutout = Image.new("RGBA", (64, 64), (0, 255, 0, 0))
        ImageDraw.Draw(cutout).rectangle((20, 20, 43, 43), fill=(200, 0, 0, 255))
        for sharpen in (0.0, 2.0):
            spec = replace(EXACT, width=21, sharpen=sharpen)
            found = array(render(encode(cutout, "PNG"), spec), "RGBA")
            seen = found[found[:, :, 3] > 128]
            assert seen[:, 1].max() <= 2
            assert np.abs(seen[:, 0] - 200).max() <= 3

    def test_an_alpha_channel_that_hides_nothing_is_dropped(self) -> None:
        body = encode(picture().convert("RGBA"), "PNG")
        assert opened(render(body, INSIDE)).mode == "RGB"

    def test_contain_is_padded_with_nothing_or_the_background(self) -> None:
        wide = encode(Image.new("RGB", (40, 10), "red"), "PNG")
        assert colour_at(render(wide, CONTAIN), 20, 2, "RGBA")[3] == 0
        assert colour_at(render(wide, CONTAIN), 20, 20, "RGBA") == (255, 0, 0, 255)
        blue = replace(CONTAIN, background="#0000ff")
        assert colour_at(render(wide, blue), 20, 2) == (0, 0, 255)
        jpg = colour_at(render(wide, replace(CONTAIN, format="jpg")), 20, 2)
        assert min(jpg) > 250


def swapped_profile() -> bytes:
    """The sRGB profile with red and blue exchanged, under another name."""
    swapped = icc().replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")
    return swapped.replace("sRGB".encode("utf-16-be"), "BGRs".encode("utf-16-be"))


def grey_profile() -> bytes:
    grey = icc().replace(b"rTRC", b"kTRC")
    return grey[:16] + b"GRAY" + grey[20:]


class TestColours:
    RED = Image.new("RGB", (16, 16), (250, 10, 20))

    @pytest.mark.parametrize("mode", ["RGB", "RGBA"])
    def test_a_picture_in_another_colour_space_is_converted_to_srgb(self, mode: str) -> None:
        image = self.RED.convert("RGB")
        if mode == "RGBA":
            image.putalpha(Image.linear_gradient("L").resize(image.size))
        found = render(encode(image, "PNG", icc_profile=swapped_profile()), EXACT)

        red, green, blue = colour_at(found, 8, 15)
        assert (red < 40, green < 40, blue > 240) == (True, True, True)
        assert "icc_profile" not in opened(found).info
        assert opened(found).mode == mode

    @pytest.mark.parametrize("image_format", list(FORMATS))
    def test_its_profile_is_kept_where_that_is_asked_for(self, image_format: Any) -> None:
        body = encode(self.RED, "PNG", icc_profile=swapped_profile())
        found = render(body, replace(EXACT, format=image_format, colors="keep"))

        assert opened(found).info["icc_profile"] == swapped_profile()
        assert np.abs(array(found) - [250, 10, 20]).max() < 6

    def test_an_srgb_picture_is_not_touched(self) -> None:
        body = encode(picture(), "PNG", icc_profile=icc())
        assert is_exactly(render(body, EXACT), picture())

    @pytest.mark.parametrize(
        "profile", [b"no profile", icc()[:200], grey_profile()], ids=["text", "cut", "of grey"]
    )
    def test_a_profile_that_is_broken_or_for_other_pixels_counts_as_none(
        self, profile: bytes
    ) -> None:
        body = encode(picture(), "PNG", icc_profile=profile)
        for colors in ("srgb", "keep"):
            found = render(body, replace(EXACT, colors=colors))  # type: ignore[arg-type]
            assert is_exactly(found, picture())
            assert "icc_profile" not in opened(found).info

    def test_a_grey_picture_with_a_grey_profile_is_converted_even_where_profiles_are_kept(
        self,
    ) -> None:
        body = encode(picture().convert("L"), "PNG", icc_profile=grey_profile())
        found = render(body, replace(EXACT, colors="keep", format="webp", quality=100))
        assert "icc_profile" not in opened(found).info
        grey = np.asarray(picture().convert("L")).astype(np.int64)
        assert np.abs(array(found)[:, :, 1] - grey).mean() < 8

    def test_cmyk_looks_as_pillow_shows_it(self) -> None:
        found = render(samples()["cmyk.jpg"], EXACT)
        shown = Image.open(io.BytesIO(samples()["cmyk.jpg"])).convert("RGB")
        assert is_exactly(found, shown)

    def test_16_bits_become_8_of_the_same_brightness(self) -> None:
        found = render(samples()["16-bit.png"], EXACT)
        grey = np.asarray(picture().convert("L")).astype(np.int64)
        assert np.abs(array(found, "L") - grey).max() <= 1


def test_sharpening_raises_contrast_and_leaves_what_was_not_shrunk() -> None:
    body = encode(picture(400, 300), "PNG")
    spread = [
        array(render(body, replace(EXACT, width=100, sharpen=strength))).std()
        for strength in (0.0, 0.4, 2.0)
    ]
    assert spread[0] < spread[1] < spread[2]
    assert is_exactly(render(body, replace(EXACT, sharpen=2.0)), picture(400, 300))


def test_quality_is_the_format_s() -> None:
    body = encode(picture(200, 150), "PNG")
    for image_format in ("webp", "avif", "jpg"):
        coarse, fine = (
            len(render(body, replace(INSIDE, width=200, format=image_format, quality=q)).data)  # type: ignore[arg-type]
            for q in (20, 90)
        )
        assert coarse < fine


class TestWhatCantBeRendered:
    @pytest.mark.parametrize("name", ["animated.png", "animated.webp"])
    def test_animations(self, name: str) -> None:
        with pytest.raises(
            ImageError, match=r"^castle: \w+ is animated: variants are made of still"
        ):
            render_variants(animations()[name], SPECS, picture="castle")

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"", "empty"),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", r"image/svg\+xml"),
            (b"GIF89a" + bytes(20), "image/gif"),
            (encode(picture(), "AVIF"), "image/avif"),
            (samples()["rgb.png"][:-30], "png is cut"),
            (samples()["baseline.jpg"][:-30], "jpg is cut"),
            (samples()["lossy.webp"][:-30], "webp is cut"),
            (samples()["rgb.png"] + b"more", "followed by 4 bytes"),
        ],
        ids=["empty", "svg", "gif", "avif", "cut png", "cut jpg", "cut webp", "followed"],
    )
    def test_what_is_no_whole_still_picture(self, body: bytes, words: str) -> None:
        with pytest.raises(ImageError, match=f"^castle: .*{words}"):
            render_variants(body, SPECS, picture="castle")

    def test_pixels_that_don_t_decode(self) -> None:
        body = samples()["rgb.png"]
        start = body.index(b"IDAT") + 4
        broken = repair(body[:start] + bytes(80) + body[start + 80 :])
        with pytest.raises(ImageError, match=r"^castle: png .* does not decode"):
            render_variants(broken, SPECS, picture="castle")

    def test_a_variant_of_more_pixels_than_a_format_can_hold(self) -> None:
        tall = encode(Image.new("1", (2, 9_000)), "PNG")
        spec = replace(INSIDE, name="hero", width=16_000, enlarge=True)
        with pytest.raises(
            ImageError, match=r"^castle: variant hero would have 16000 x .* both width"
        ):
            render_variants(tall, [spec], picture="castle")

    def test_a_picture_of_too_many_pixels_is_not_decoded(self) -> None:
        header = encode(Image.new("1", (9_460, 9_460)), "PNG")
        with pytest.raises(ImageError, match=r"^castle: png of 9460 x 9460 px: more than"):
            render_variants(header, [INSIDE], picture="castle")

    def test_all_mistakes_of_the_specs_at_once_before_anything_is_read(self) -> None:
        wrong = [replace(COVER, width=None), replace(INSIDE, quality=0)]
        with pytest.raises(ImageError) as caught:
            render_variants(b"", wrong)
        assert "variant cover: fit cover needs both" in str(caught.value)
        assert "variant inside: quality must be 1 to 100" in str(caught.value)

    def test_a_pillow_without_a_format(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Such a build can't be had beside this one, so what it answers is given."""
        monkeypatch.setattr(features, "check", lambda name: name != "avif")
        with pytest.raises(ImageError, match=r"^avif can't be written by this build of Pillow: "):
            check_specs(SPECS)
        check_specs([INSIDE, COVER, CONTAIN])
