"""Hostile bytes in every public call: an answer or ImageError, never anything else."""

import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.errors import ImageError
from flux_pipeline.images.formats import detect_format, image_sha256, read_structure, read_xmp
from flux_pipeline.images.inspection import inspect_image
from flux_pipeline.images.labels import Label, label_image, read_label
from tests.images.samples import animations, insert_xmp, repair, samples, strip_xmp


def inspect(body: bytes) -> None:
    inspect_image(body, image_format="webp", width=60, height=45, with_thumbnail=True)


def label_and_read(body: bytes) -> None:
    label = Label(prompt="a castle", run_id="r")
    assert read_label(label_image(body, label)) == label


CALLS: list[Callable[[bytes], object]] = [
    detect_format,
    image_sha256,
    read_xmp,
    strip_xmp,
    lambda body: insert_xmp(body, b"<x/>"),
    label_and_read,
    inspect,
]
FILES = [*samples().values(), *animations().values()]
HEADS = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"RIFF\x20\0\0\0WEBP"]


def answers(body: bytes) -> int:
    """How many of the calls took the bytes for an image."""
    count = 0
    for call in CALLS:
        try:
            call(body)
        except ImageError:
            continue
        count += 1
    return count


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(HEADS), st.binary(max_size=200))
def test_random_bytes_are_no_image(head: bytes, rest: bytes) -> None:
    assert answers(head + rest) <= 1  # detect_format reads the head alone


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A real file with a few bytes changed, cut out, doubled or put in; often repaired after."""
    body = bytearray(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(1, 4))):
        near = draw(st.booleans())  # headers are at the front, and worth half of the damage
        at = draw(st.integers(0, min(len(body), 300) if near else len(body)))
        length = draw(st.integers(0, 24))
        new = draw(st.binary(max_size=12) | st.just(bytes(body[at : at + length])))
        body[at : at + draw(st.sampled_from([0, len(new), length]))] = new
    return repair(bytes(body)) if draw(st.booleans()) else bytes(body)


@settings(deadline=None, max_examples=60)
@given(damaged())
def test_damaged_files_get_an_answer_or_an_image_error(body: bytes) -> None:
    answers(body)


@settings(deadline=None, max_examples=50)
@given(damaged())
def test_structure_that_is_accepted_fills_the_file(body: bytes) -> None:
    try:
        structure = read_structure(body)
    except ImageError:
        return
    position = structure.chunks[0].start
    for chunk in structure.chunks:
        assert chunk.start == position <= chunk.data <= chunk.data_end <= chunk.end
        position = chunk.end
    assert position == len(body)


def test_every_byte_of_the_headers_may_be_any_other() -> None:
    rng = random.Random(0)  # noqa: S311 - no secret
    for body in FILES:
        for at in rng.sample(range(min(len(body), 700)), 12):
            changed = bytearray(body)
            changed[at] = rng.randrange(256)
            answers(repair(bytes(changed)))
