import hashlib
import json
import os
import shutil
import tracemalloc
from pathlib import Path

import pytest

from flux_pipeline.errors import StoreError
from flux_pipeline.store import local
from flux_pipeline.store.base import Store
from flux_pipeline.store.local import DurableWriter, FolderStore, SortedNames
from tests.store.contract import WEBP, StoreContract, head
from tests.store.pictures import IDS, KEY, put


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


class TestFolderStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return FolderStore(tmp_path / "my pictures ü")

    @pytest.fixture
    def reopened(self, tmp_path: Path) -> Store:
        return FolderStore(tmp_path / "my pictures ü")


def test_people_see_plain_pictures_in_plain_folders(store: FolderStore, root: Path) -> None:
    put(store)
    assert (root / KEY).read_bytes() == b"picture"
    assert {name for name in files(root) if not name.startswith(".store/")} == {KEY}


def test_a_picture_can_be_read_by_others_as_the_umask_says(store: FolderStore, root: Path) -> None:
    before = os.umask(0o027)
    try:
        put(store)
    finally:
        os.umask(before)
    assert (root / KEY).stat().st_mode & 0o777 == 0o640


def test_a_file_that_needs_no_note_has_none(store: FolderStore, root: Path) -> None:
    store.put("gallery.html", b"<p>", content_type="text/html")
    assert files(root) == {"gallery.html"}


def test_a_deleted_picture_can_be_stored_again(store: FolderStore, root: Path) -> None:
    put(store)
    (root / KEY).unlink()
    assert store.head(KEY) is None
    assert put(store, b"another")
    assert store.get(KEY) == b"another"


def test_a_deleted_folder_is_made_again(store: FolderStore, root: Path) -> None:
    put(store)
    shutil.rmtree(root)
    assert put(store)


def test_an_edited_picture_has_the_checksum_of_its_bytes_and_no_metadata(
    store: FolderStore, root: Path
) -> None:
    put(store)
    (root / KEY).write_bytes(b"Picture")
    found = head(store, KEY)
    assert (found.sha256, found.metadata) == (hashlib.sha256(b"Picture").hexdigest(), {})


def test_a_picture_that_somebody_put_there_is_kept(store: FolderStore, root: Path) -> None:
    (root / KEY).parent.mkdir(parents=True)
    (root / KEY).write_bytes(b"theirs")
    assert not put(store)
    assert store.get(KEY) == b"theirs"


def test_a_copied_folder_is_the_same_store(store: FolderStore, root: Path, tmp_path: Path) -> None:
    put(store)
    copy = FolderStore(shutil.copytree(root, tmp_path / "copy"))
    assert head(copy, KEY).metadata == IDS


def test_a_relative_folder_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = FolderStore(Path("data"))
    monkeypatch.chdir("/")
    put(store)
    assert (tmp_path / "data" / KEY).exists()


def test_a_folder_of_very_many_files_is_listed_in_order(
    store: FolderStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_NAMES_OF_A_PACK", 7)
    keys = {f"images/winter/{hash_of(number)}.webp" for number in range(24)}
    keys |= {f"images/winter/{hash_of(number)}/a.webp" for number in range(24, 30)}
    for key in keys:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).touch()
    assert list(store.list("images/winter/")) == sorted(keys)


def hash_of(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()[:8]


def test_a_name_in_a_listing_takes_little_more_memory_than_its_letters() -> None:
    names, count = SortedNames(), 40_000
    tracemalloc.start()
    try:
        for number in range(count):
            names.add(f"idea-row-{number:07d}-c9c6900a09046a76-0.webp")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held / count < 1.5 * len(next(iter(names)))


def test_foreign_files_and_links_are_not_listed(store: FolderStore, root: Path) -> None:
    put(store)
    for name in (".DS_Store", "Thumbs.db", "images/.hidden.webp", "images/castle/IMG 1.JPG"):
        (root / name).write_bytes(b"")
    (root / "loop").symlink_to(root)
    (root / "link.webp").symlink_to(root / KEY)
    assert list(store.list()) == [KEY]


@pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a/b", "a"), ("a/b", "a/b/c/d")])
def test_a_key_cannot_be_a_file_and_a_folder(store: FolderStore, first: str, second: str) -> None:
    put(store, key=first)
    for attempt in (put, lambda store, key: store.put(key, b"x", content_type=WEBP)):
        with pytest.raises(StoreError, match=f"/{second}: ") as caught:
            attempt(store, key=second)
        assert "folder" in str(caught.value)
    assert store.head(second) is None
    assert list(store.list()) == [first]


def test_a_root_that_is_a_file_is_named(root: Path) -> None:
    root.write_bytes(b"")
    with pytest.raises(StoreError, match=r"^file:///.*/data: "):
        FolderStore(root).check()


def test_a_damaged_note_is_named(store: FolderStore, root: Path) -> None:
    put(store)
    (note,) = (root / ".store/notes").rglob("*.json")
    for damage in (b"", b"{", b"[]", b'{"content_type": "a/b"}'):
        note.write_bytes(damage)
        with pytest.raises(StoreError, match=r"\.json: a damaged note; delete it"):
            store.head(KEY)
    note.unlink()
    assert store.head(KEY) is not None


def test_check_removes_what_killed_writers_left_a_day_ago(store: FolderStore, root: Path) -> None:
    put(store)
    old, young = root / ".store/staging/old", root / ".store/staging/young"
    for path in (old, young):
        path.write_bytes(b"half")
    now = young.stat().st_mtime
    os.utime(old, (now - 86_401, now - 86_401))
    os.utime(young, (now - 80_000, now - 80_000))
    store.check()
    assert {path.name for path in young.parent.iterdir()} == {"young"}


def test_check_refuses_a_disk_where_links_overwrite(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", shutil.copyfile)
    with pytest.raises(StoreError, match="choose another disk"):
        store.check()


def test_a_deleted_object_leaves_no_note(store: FolderStore, root: Path) -> None:
    store.put_new("images/a.webp", b"x", content_type=WEBP, metadata={"id": "1"})
    store.delete("images/a.webp")
    assert not list((root / ".store/notes").rglob("*.json"))
    assert not (root / "images/a.webp").exists()


def test_notes_are_readable_json(store: FolderStore, root: Path) -> None:
    put(store)
    (note,) = (root / ".store/notes/images/castle").iterdir()
    assert json.loads(note.read_text()) == {"content_type": WEBP, "metadata": IDS}


def test_a_writer_makes_no_root_anew_while_one_is_moved_away(tmp_path: Path) -> None:
    root, away = tmp_path / "store", tmp_path / "away"
    writer = DurableWriter(root, root / ".staging")
    assert writer.write_new(root / "a" / "b", b"")
    writer.has_root = True
    root.rename(away)  # behind the look whether it is there
    with pytest.raises(FileNotFoundError):
        writer.write_new(root / "a" / "c", b"")
    assert not root.exists()
