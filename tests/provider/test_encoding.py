"""Encodings that are really there are undone, within a limit; all other bytes stay as they are."""

import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.provider.encoding import undo_encoding
from tests.provider.encoded import SIGNATURE, aws_chunked, packed


def is_plain(body: bytes) -> bool:
    return body.startswith(b"PLAIN")


def undone(body: bytes, limit: int = 1_000_000) -> bytes | None:
    return undo_encoding(body, limit, is_plain)


PLAIN = b"PLAIN" + bytes(range(256)) * 20


@pytest.mark.parametrize(
    "body",
    [
        PLAIN,
        packed(PLAIN),
        packed(PLAIN[:100]) + packed(PLAIN[100:]),
        zlib.compress(PLAIN, 0),
        zlib.compress(PLAIN, 6),
        zlib.compress(PLAIN, 9),
        aws_chunked(PLAIN),
        aws_chunked(PLAIN, size=10**6),
        aws_chunked(PLAIN, extension=SIGNATURE),
        aws_chunked(PLAIN).removesuffix(b"\r\n") + b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n",
        aws_chunked(packed(PLAIN)),
        packed(aws_chunked(PLAIN, extension=SIGNATURE)),
        packed(packed(packed(PLAIN))),
    ],
)
def test_what_is_encoded_is_undone(body: bytes) -> None:
    assert undone(body) == PLAIN


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\x1f\x8b",
        b"\x78\x9c",
        packed(PLAIN)[:-1],
        packed(PLAIN)[:-8] + bytes(8),
        zlib.compress(PLAIN)[:-9],
        aws_chunked(PLAIN)[:-400],
        b"ffffffff\r\n" + PLAIN,
        b"1f\r\n",
    ],
)
def test_what_is_damaged_comes_back_as_it_is(body: bytes) -> None:
    assert undone(body) == body


def test_plain_bytes_that_look_encoded_are_left_alone() -> None:
    body = packed(b"x")
    assert undo_encoding(body, 1000, lambda _: True) == body


def test_the_limit_is_that_of_the_plain_bytes() -> None:
    body = packed(PLAIN)
    assert undone(body, len(PLAIN)) == PLAIN
    assert undone(body, len(PLAIN) - 1) is None


def test_a_bomb_is_never_unpacked_beyond_the_limit() -> None:
    inner = packed(bytes(64 * 2**20))
    for bomb in (inner, zlib.compress(bytes(64 * 2**20)), aws_chunked(inner)):
        tracemalloc.start()
        try:
            assert undone(bomb, 2**20) is None
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 6 * 2**20


@settings(deadline=None, max_examples=100)
@given(body=st.binary(max_size=300), size=st.integers(1, 400), signed=st.booleans())
def test_every_body_comes_back_out_of_its_chunks(body: bytes, size: int, *, signed: bool) -> None:
    chunked = aws_chunked(b"PLAIN" + body, size=size, extension=SIGNATURE * signed)
    assert undone(chunked) == b"PLAIN" + body


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise(body: bytes) -> None:
    undone(b"\x1f\x8b\x08" + body)
    undone(b"\x78\x9c" + body)
    undone(b"9\r\n" + body)
