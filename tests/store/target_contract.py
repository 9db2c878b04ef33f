"""What every target must do: the test class of each implementation inherits this."""

import threading
from concurrent.futures import ThreadPoolExecutor
from tempfile import TemporaryFile

import pytest

from flux_pipeline.errors import StoreError
from flux_pipeline.store.target import Target, TargetChanged


class TargetContract:
    """How files are written, replaced, found and removed, alone and beside other publishers."""

    @pytest.fixture
    def target(self) -> Target:
        raise NotImplementedError

    @pytest.fixture
    def other(self) -> Target:
        """The same place, as another publisher opens it."""
        raise NotImplementedError

    def test_a_file_is_written_and_replaced_and_its_tag_tells(self, target: Target) -> None:
        target.check()
        assert target.read("shop/a b/Schuh 鞋@2x.webp") is None
        first = target.put("shop/a b/Schuh 鞋@2x.webp", b"one", content_type="image/webp")
        assert target.read("shop/a b/Schuh 鞋@2x.webp") == (b"one", first)
        second = target.put("shop/a b/Schuh 鞋@2x.webp", b"three", content_type="image/webp")
        assert target.read("shop/a b/Schuh 鞋@2x.webp") == (b"three", second)
        assert first != second

    def test_a_file_is_written_from_an_open_one_and_fetched_into_one(self, target: Target) -> None:
        body = bytes(range(256)) * 3000  # more than is held at a time
        with TemporaryFile() as one, TemporaryFile() as other:
            assert target.fetch("index.json", other) is None
            one.write(body)
            tag = target.put("index.json", one, kind="index", replacing="")
            newer = target.put("index.json", one, kind="index", replacing=tag)
            assert target.fetch("index.json", other) == newer
            other.seek(0)
            assert other.read() == body
            one.write(b"more")
            with pytest.raises(TargetChanged):
                target.put("index.json", one, kind="index", replacing="another")
        assert target.read("index.json") == (body, newer)

    def test_files_are_found_by_the_beginning_of_their_path_with_size_and_tag(
        self, target: Target
    ) -> None:
        tags = {path: target.put(path, path.encode()) for path in ("a/1", "a/2", "ab/3", ".x")}
        found = {each.path: (each.size, each.tag) for each in target.find()}
        assert found == {path: (len(path), tag) for path, tag in tags.items()}
        assert {each.path for each in target.find("a/")} == {"a/1", "a/2"}
        assert {each.path for each in target.find("a")} == {"a/1", "a/2", "ab/3"}
        assert not list(target.find("b"))

    def test_a_file_is_removed_and_removing_it_again_is_harmless(self, target: Target) -> None:
        target.put("a/1", b"one")
        target.delete("a/1")
        target.delete("a/1")
        target.delete("nowhere/1")
        assert target.read("a/1") is None
        assert not list(target.find())

    def test_a_file_is_replaced_only_where_the_awaited_one_lies(self, target: Target) -> None:
        tag = target.put("index.json", b"one", kind="index", replacing="")
        with pytest.raises(TargetChanged, match=r"index\.json: another publisher"):
            target.put("index.json", b"two", kind="index", replacing="")
        newer = target.put("index.json", b"two!", kind="index", replacing=tag)
        with pytest.raises(TargetChanged):
            target.put("index.json", b"three", kind="index", replacing=tag)
        with pytest.raises(TargetChanged):
            target.put("none.json", b"one", kind="index", replacing=tag)
        assert target.read("index.json") == (b"two!", newer)

    @pytest.mark.parametrize(
        "path", ["", "a//b", "../a", "a/../b", "./a", "a/\x07", "a\\b", "/a", "a/", "x" * 256]
    )
    def test_a_path_that_is_none_everywhere_is_refused(self, target: Target, path: str) -> None:
        with pytest.raises(ValueError, match="path"):
            target.put(path, b"")

    def test_one_publisher_is_in_at_a_time(self, target: Target, other: Target) -> None:
        inside = 0
        most = 0
        guard = threading.Lock()

        def publish(one: Target) -> None:
            nonlocal inside, most
            with one.exclusive() as keep:
                with guard:
                    inside += 1
                    most = max(most, inside)
                keep()
                one.put("index.json", b"x", kind="index")
                with guard:
                    inside -= 1

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(publish, [target, other, target, other]))
        assert most == 1

    def test_who_has_to_wait_is_told_so_once(self, target: Target, other: Target) -> None:
        told = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            with target.exclusive():
                waiting = pool.submit(self._enter, other, told)
                assert told.wait(60)
            assert waiting.result(60)
        with other.exclusive(pytest.fail):
            pass

    @staticmethod
    def _enter(other: Target, told: threading.Event) -> bool:
        with other.exclusive(told.set):
            return True

    def test_it_is_free_again_where_the_block_raised(self, target: Target, other: Target) -> None:
        with pytest.raises(StoreError, match="gone"), target.exclusive():
            raise StoreError("gone")
        with other.exclusive(pytest.fail):
            pass
