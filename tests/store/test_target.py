"""A target in a folder, and which address opens which target."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flux_pipeline.errors import StoreError
from flux_pipeline.store.open import open_target
from flux_pipeline.store.s3_target import S3Target
from flux_pipeline.store.target import STAGING, FolderTarget, Target, TargetOptions
from tests.store.target_contract import TargetContract

PLAIN = TargetOptions()


class TestFolderTarget(TargetContract):
    @pytest.fixture
    def target(self, tmp_path: Path) -> Target:
        return FolderTarget(tmp_path / "public")

    @pytest.fixture
    def other(self, tmp_path: Path) -> Target:
        return FolderTarget(tmp_path / "public")


def test_publishers_of_one_process_check_one_folder_at_once(tmp_path: Path) -> None:
    targets = [FolderTarget(tmp_path / "public")] * 200
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(FolderTarget.check, targets))
    assert list((tmp_path / "public" / STAGING).iterdir()) == []


def test_a_publisher_that_is_killed_leaves_no_half_file_and_no_lock(tmp_path: Path) -> None:
    target = FolderTarget(tmp_path)
    target.put("a.webp", b"before")
    code = (
        "import sys, pathlib, os\n"
        "from flux_pipeline.store import target\n"
        "found = target.FolderTarget(pathlib.Path(sys.argv[1]))\n"
        "pathlib.Path.replace = lambda *_: os.kill(os.getpid(), 9)\n"
        "with found.exclusive():\n"
        "    found.put('a.webp', b'after')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert [each.path for each in target.find()] == ["a.webp"]
    assert (tmp_path / "a.webp").read_bytes() == b"before"
    with target.exclusive(pytest.fail):
        pass
    assert len(list((tmp_path / STAGING).iterdir())) == 1
    staged = next((tmp_path / STAGING).iterdir())
    os.utime(staged, (0, 0))
    target.check()
    assert not list((tmp_path / STAGING).iterdir())


def test_links_are_not_taken_for_published_files(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert [each.path for each in FolderTarget(tmp_path).find()] == ["real"]


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    target = FolderTarget(tmp_path)
    with pytest.raises(StoreError, match=r"file://.*/file.*a part of this key is a file already"):
        target.put("file/a.webp", b"x")


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("file", r"/.*/file is a file"),
        ("file/below/it", r"/.*/file is a file"),
        ("/proc/nowhere/public", r"No such file or directory"),
    ],
)
def test_a_folder_that_can_not_be_made_is_named_with_the_reason(
    tmp_path: Path, folder: str, reason: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    target = FolderTarget(tmp_path / folder)
    said = rf"file://.*: this folder can't be made \({reason}\): make it, or give publish\.to"
    with pytest.raises(StoreError, match=said):
        target.check()
    with pytest.raises(StoreError, match=said):
        target.put("a.webp", b"x")
    with pytest.raises(StoreError, match=said), target.exclusive():
        pass
    assert not list(target.find())


def test_an_address_opens_a_folder_or_a_bucket_and_none_the_place_in_the_store(
    tmp_path: Path, variables: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = (tmp_path / "data").as_uri()

    def opened(to: str, store_uri: str = store) -> Target:
        return open_target(to, PLAIN, store_uri=store_uri, default="published/shop")

    assert opened("").uri == f"{store}/published/shop"
    assert opened("file:./public").uri == (tmp_path / "public").as_uri()
    assert opened("s3://site/pictures").uri == "s3://site/pictures"
    assert opened("", "s3://bucket/prefix").uri == "s3://bucket/prefix/published/shop"
    assert isinstance(opened("", "s3://bucket/prefix"), S3Target)
    with pytest.raises(StoreError, match=r"publish\.to 'ftp://x': no such kind of store"):
        opened("ftp://x")
    with pytest.raises(StoreError, match=r"^publish\.to: the address holds '@'") as found:
        opened("s3://key:secret@site/pictures")
    assert "secret" not in str(found.value)
