"""What a publisher remembers comes back as it was written; what is damaged counts as nothing."""

import json

import pytest

from flux_pipeline.publish.scratch import Scratch, spooled
from flux_pipeline.publish.state import FileFacts, PictureFacts, State, read_state

FILE = FileFacts(path="a.webp", made_by="k", tag="1-2", sha256="ab", bytes=3, width=4, height=5)
PICTURE = PictureFacts(
    partition="p",
    prompt_name="hat 帽子",
    take=1,
    output_index=0,
    source_sha256="cd",
    published_at="2026-11-30T08:00:00Z",
    color="#ffffff",
    placeholder="data:",
    files=(FILE,),
)
BODY = (
    '{"version": 1, "indexes": {"index.csv": "1 ab"}, "others": {"a": "", "b": "3-4"}}\n'
    '{"name": "hat", "partition": "p", "prompt_name": "hat 帽子", "take": 1, "output_index": 0,'
    ' "source_sha256": "cd", "published_at": "2026-11-30T08:00:00Z", "color": "#ffffff",'
    ' "placeholder": "data:", "files": [{"path": "a.webp", "made_by": "k", "tag": "1-2",'
    ' "sha256": "ab", "bytes": 3, "width": 4, "height": 5}]}\n'
).encode()
"""As every version has written it."""


def read(body: bytes) -> State:
    with spooled([body]) as file:
        return read_state(file, Scratch())


def test_a_state_is_written_as_ever_and_read_again() -> None:
    state = State(Scratch())
    state.others["b"] = "3-4"
    state.others["a"] = ""
    state.indexes["index.csv"] = "1 ab"
    state.put("hat", PICTURE)
    assert b"".join(state.body()) == BODY
    again = read(BODY)
    assert (again.find("hat"), again.find("bag")) == (PICTURE, None)
    assert dict(again.owned) == {"a": "", "b": "3-4", "a.webp": "1-2"}
    assert b"".join(again.body()) == BODY
    assert b"".join(read(b"").body()) == b'{"version": 1, "indexes": {}, "others": {}}\n'


def test_the_files_of_a_picture_that_is_dropped_stay_ours() -> None:
    state = read(BODY)
    state.drop("hat")
    assert dict(state.others) == {"a": "", "b": "3-4", "a.webp": "1-2"}
    state.put("hat", PICTURE)
    assert dict(state.others) == {"a": "", "b": "3-4"}


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"version": 2, "indexes": {}, "others": {}}\n',
        b'{"version": 1, "indexes": {}}\n',
        BODY[:-20],
        BODY.replace(b'"take": 1, ', b""),
        BODY.replace(b'"tag": "1-2"', b'"tag": {}'),
        BODY.replace(b'"path": "a.webp"', b'"path": 1'),
        json.dumps([1]).encode(),
    ],
)
def test_a_damaged_state_counts_as_none(body: bytes) -> None:
    state = read(body)
    assert (len(state.pictures), len(state.others), state.indexes) == (0, 0, {})
