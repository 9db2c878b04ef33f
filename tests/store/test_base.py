"""Keys and metadata: what every store refuses."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.store.base import (
    MAX_KEY,
    MAX_PART,
    check_key,
    check_metadata,
    check_prefix,
    is_key,
)
from flux_pipeline.store.local import FolderStore

HOSTILE_KEYS = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "../x",
    "a/../x",
    "a/..",
    "a..b",
    ".",
    "./a",
    "a/./b",
    ".store/notes/x",
    "a/.hidden",
    "a//b",
    "a/",
    "-a",
    "A",
    "a\\b",
    "a b",
    "a%2e%2e",
    "a\n",
    "a\0b",
    "s3://other/x",
    "a?versionid=1",
    "bild-ü",
    "ａ",
    "a/" + "b" * 181,
    "a/" * 400 + "a",
]
BAD_METADATA: dict[str, dict[str, str]] = {
    "not ASCII": {"prompt": "château"},
    "emoji": {"prompt": "🏰"},
    "a new line": {"id": "a\nx-amz-acl: public-read"},
    "a control character": {"id": "a\x00"},
    "blanks at the end": {"id": "a "},
    "an empty value": {"id": ""},
    "256 bytes": {"id": "a" * 256},
    "an underscore in the name": {"image_sha256": "a"},
    "capitals in the name": {"Image": "a"},
    "an empty name": {"": "a"},
    "the store's own name": {"sha256": "a"},
    "more than 2 KB": {f"name-{n}": "a" * 250 for n in range(8)},
}
PARTS = st.text("abz019._=-", min_size=1, max_size=8)
NEAR_KEYS = st.lists(PARTS | st.sampled_from(["..", ".", "", "A", "é"]), max_size=5).map("/".join)


@settings(deadline=None)
@given(NEAR_KEYS | st.text(max_size=30))
def test_a_key_stays_below_its_root_under_its_own_name(text: str) -> None:
    if is_key(text):
        assert re.fullmatch(r"[a-z0-9][a-z0-9._=/-]*", text)
        assert os.path.normpath(Path("/root/data", text)) == f"/root/data/{text}"
        assert not any(part.startswith(".") for part in text.split("/"))


@settings(deadline=None)
@given(NEAR_KEYS)
def test_joining_keys_with_a_slash_makes_a_key(text: str) -> None:
    if is_key(text):
        assert is_key(f"{text}/{text}")
        assert not is_key(f"/{text}")
        assert not is_key(f"{text}/")
        assert not is_key(f"{text}/../{text}")


def test_the_limits_are_sharp() -> None:
    assert is_key("a" * MAX_PART)
    assert not is_key("a" * (MAX_PART + 1))
    longest = "a/" * (MAX_KEY // 2 - 1) + "ab"
    assert len(longest) == MAX_KEY
    assert is_key(longest)
    assert not is_key(longest + "a")


def test_a_part_leaves_room_for_its_notes_name(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    key = "a" * MAX_PART
    _, new = store.put_new(key, b"", content_type="a/b", metadata={"id": "1"})
    (note,) = (tmp_path / ".store/notes").iterdir()
    assert new
    assert len(note.name) <= 255


@pytest.mark.parametrize("key", HOSTILE_KEYS)
def test_a_key_that_could_mean_something_else_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="store key"):
        check_key(key)


@pytest.mark.parametrize("prefix", ["../", "/", ".store/", "a/../b", "a//b", "A", "a b", "ü"])
def test_a_prefix_that_no_key_begins_with_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="store prefix"):
        check_prefix(prefix)


@pytest.mark.parametrize("metadata", BAD_METADATA.values(), ids=BAD_METADATA)
def test_metadata_that_some_store_would_change_are_refused(metadata: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="metadata"):
        check_metadata("image/webp", metadata)


@pytest.mark.parametrize("content_type", ["", "webp", "image/webp\r\nx: y", "image/ü"])
def test_a_content_type_that_is_none_is_refused(content_type: str) -> None:
    with pytest.raises(ValueError, match="content type"):
        check_metadata(content_type, {})
