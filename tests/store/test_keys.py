import os
import re
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.store.base import MAX_KEY, MAX_PART, is_key
from flux_pipeline.store.local import FolderStore

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
