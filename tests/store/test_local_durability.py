"""What a folder holds after a full disk, a failing disk, a crash at any step and SIGKILL."""

import errno
import hashlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from flux_pipeline.errors import StoreError
from flux_pipeline.store.local import FolderStore
from tests.store.contract import WEBP, head
from tests.store.pictures import IDS, KEY, put


class Disk:
    """Notes what is flushed and named, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[str] = []
        self.fail: dict[str, int] = {}
        self._wrap(monkeypatch, "fsync", lambda fd, *_: Path(f"/proc/self/fd/{fd}").readlink())
        self._wrap(monkeypatch, "link", lambda _, to: to)

    def _wrap(
        self, monkeypatch: pytest.MonkeyPatch, name: str, path_of: Callable[..., Path]
    ) -> None:
        real = getattr(os, name)

        def wrapped(*arguments: object) -> object:
            path = path_of(*arguments)
            kind = "staged" if path.parent.name == "staging" else path.name
            step = f"{name} {kind}"
            if step in self.fail:
                raise OSError(self.fail[step], "injected")
            self.steps.append(step)
            return real(*arguments)

        monkeypatch.setattr(os, name, wrapped)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
class TestOnAFailingDisk:
    @pytest.fixture
    def disk(self, store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> Disk:
        put(store, key="images/castle/other.webp")
        return Disk(monkeypatch)

    def test_bytes_are_flushed_before_their_name_and_the_name_before_the_answer(
        self, store: FolderStore, disk: Disk
    ) -> None:
        note = f"out-0.webp.{hashlib.sha256(b'picture').hexdigest()}.json"
        assert put(store)
        assert disk.steps == [
            "fsync staged",
            f"link {note}",
            "fsync castle",
            "fsync staged",
            "link out-0.webp",
            "fsync castle",
        ]

    def test_new_folders_are_flushed_too(self, store: FolderStore, disk: Disk) -> None:
        store.put_new("x/y/z.webp", b"", content_type=WEBP, metadata={})
        assert disk.steps[:2] == ["fsync data", "fsync x"]

    def test_folders_that_another_writer_has_just_made_are_flushed_as_well(
        self, disk: Disk, root: Path
    ) -> None:
        (root / "x/y").mkdir(parents=True)
        FolderStore(root).put("x/y/z.webp", b"", content_type=WEBP)
        assert disk.steps[:2] == ["fsync data", "fsync x"]

    def test_the_loser_of_a_race_flushes_the_winners_name(
        self, store: FolderStore, disk: Disk
    ) -> None:
        put(store)
        disk.steps.clear()
        assert not put(store)
        assert disk.steps == ["fsync castle"]

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
    @pytest.mark.parametrize("step", ["fsync staged", "link out-0.webp"])
    def test_an_error_leaves_nothing_half_written(
        self, store: FolderStore, disk: Disk, root: Path, step: str, code: int
    ) -> None:
        disk.fail[step] = code
        with pytest.raises(StoreError) as caught:
            put(store)
        assert str(caught.value).startswith(f"{store.uri}/{KEY}: {os.strerror(code)}; ")
        assert not list((root / ".store/staging").iterdir())
        assert store.head(KEY) is None
        disk.fail.clear()
        assert put(store)

    def test_a_name_that_could_not_be_flushed_is_an_error_and_can_be_put_again(
        self, store: FolderStore, disk: Disk
    ) -> None:
        disk.fail["fsync castle"] = errno.EIO
        with pytest.raises(StoreError, match="the disk fails"):
            put(store)
        disk.fail.clear()
        put(store)
        assert store.get(KEY) == b"picture"

    @pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.EMLINK])
    def test_a_disk_without_links_is_named(
        self, store: FolderStore, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(code, "injected")

        monkeypatch.setattr(os, "link", refuse)
        with pytest.raises(StoreError, match="hard links"):
            store.check()

    def test_a_file_system_that_cannot_flush_folders_is_accepted(
        self, store: FolderStore, disk: Disk
    ) -> None:
        disk.fail["fsync castle"] = errno.EINVAL
        assert put(store)

    @pytest.mark.parametrize("step", range(6))
    def test_a_crash_at_any_step_leaves_all_or_nothing(
        self, store: FolderStore, disk: Disk, root: Path, step: int
    ) -> None:
        put(store, key="images/castle/plan.webp")
        plan, disk.steps = disk.steps[len(disk.steps) - 6 :], []

        class Crash(BaseException):
            pass

        class Steps(list[str]):
            def append(self, one: str) -> None:
                super().append(one)
                if len(self) == step + 1:
                    raise Crash

        disk.steps = Steps()
        with pytest.raises(Crash):
            put(store)
        disk.steps = []
        after = FolderStore(root)
        visible = KEY in after.list()
        assert (after.head(KEY) is not None) == visible
        assert visible == (step > plan.index("link plan.webp"))
        assert put(after) == (not visible)
        assert head(after, KEY).metadata == IDS


def run(script: str, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_nothing_that_was_answered_is_lost_when_writers_are_killed(root: Path) -> None:
    script = """
        import hashlib, sys
        from pathlib import Path
        from flux_pipeline.store.local import FolderStore
        store = FolderStore(Path(sys.argv[1]))
        for number in range(int(sys.argv[2]), 10**9):
            body = str(number).encode() * 2000
            metadata = {"sha": hashlib.sha256(body).hexdigest()}
            store.put_new(f"{number % 7}/{number}", body, content_type="a/b", metadata=metadata)
            print(f"{number % 7}/{number}", flush=True)
    """
    answered: set[str] = set()
    for kill in range(2):
        writers = [run(script, root, kill * 10**6 + offset) for offset in (0, 3)]
        for writer in writers:
            assert writer.stdout is not None
            answered.update(writer.stdout.readline().strip() for _ in range(20 + 17 * kill))
        for writer in writers:
            writer.kill()
            answered.update(writer.communicate()[0].split("\n")[:-1])
    store = FolderStore(root)
    listed = set(store.list())
    assert answered <= listed
    for key in listed:
        found = head(store, key)
        assert found.metadata["sha"] == found.sha256


def test_a_limit_on_file_size_is_an_error_that_names_the_object(root: Path) -> None:
    script = """
        import resource, sys
        from pathlib import Path
        from flux_pipeline.errors import StoreError
        from flux_pipeline.store.local import FolderStore
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        store = FolderStore(Path(sys.argv[1]))
        try:
            store.put_new("a/b.webp", bytes(200_000), content_type="image/webp", metadata={})
        except StoreError as error:
            print(error)
        print(list(store.list()), store.head("a/b.webp"))
    """
    output, _ = run(script, root).communicate()
    assert "/a/b.webp: File too large; the size limit" in output
    assert output.endswith("[] None\n")
