"""A reader never finds a file missing that the index names: killed anywhere, and beside others."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from flux_pipeline.publish.rendering import Renderer
from flux_pipeline.store.target import FolderTarget, Target
from tests.publish.conftest import AFTER, BEFORE, WITHOUT_HAT, Shop
from tests.publish.targets import Killed, WatchedTarget, Wrap, killed_at, missing_files

WRITES = ("put", "delete", "exclusive")


@pytest.fixture(autouse=True)
def rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same picture is decoded once for all deliveries of a test."""
    render, made = Renderer.render, dict[Any, Any]()

    def remembered(renderer: Renderer, image: Any, numbers: Any) -> Any:
        key = (tuple(renderer.keys), image, tuple(numbers))
        return made.get(key) or made.setdefault(key, render(renderer, image, numbers))

    monkeypatch.setattr(Renderer, "render", remembered)


def copied(shop: Shop, folder: Path) -> Shop:
    """The shop with a copy of its public folder, tags included."""
    copytree(shop.folder, folder)
    return replace(shop, folder=folder, to=f"file:{folder}/public")


def edited(shop: Shop) -> Any:
    (shop.folder / "picks.csv").write_text("prompt,take\nshoe,2\nbag,1\n")
    return shop.write(AFTER, WITHOUT_HAT, prune=True)


def seen_by_reader(shop: Shop) -> list[str]:
    return missing_files(FolderTarget(shop.public))


def test_killed_at_any_operation_the_index_stays_true_and_the_next_publish_ends_it(
    shop: Shop, tmp_path_factory: pytest.TempPathFactory, wrapped: Callable[[Wrap], None]
) -> None:
    tmp_path = tmp_path_factory.mktemp("killed")
    shop.publish(shop.write(BEFORE))
    (shop.public / "theirs.webp").write_bytes(b"theirs")
    whole = copied(shop, tmp_path / "whole")
    seen: list[str] = []
    wrapped(lambda target: WatchedTarget(target, seen=seen))
    assert whole.publish(edited(whole)).problems == ()
    expected = whole.files()
    assert {"shoe-2-web.webp", "theirs.webp"} < expected.keys()
    assert "shoe-1-web.webp" not in expected
    writes = [number for number, what in enumerate(seen, 1) if what.startswith(WRITES)]
    assert len(writes) > 10
    for number in writes:
        one = copied(shop, tmp_path / f"{number}")
        wrapped(killed_at(number))
        with pytest.raises(Killed):
            one.publish(edited(one))
        assert seen_by_reader(one) == []
        wrapped(lambda target: target)
        one.publish(edited(one))
        assert one.files() == expected, seen[number - 1]


def test_a_publisher_that_is_really_killed_is_followed_by_the_next_one(shop: Shop) -> None:
    shop.publish(shop.write(BEFORE))
    prompt_set = edited(shop)
    code = (
        "import os, pathlib, sys\n"
        "from flux_pipeline.prompts import load_prompt_set\n"
        "from flux_pipeline.publish.publisher import Publishing, publish_set\n"
        "from flux_pipeline.store.open import open_store\n"
        "from flux_pipeline.store.target import FolderTarget\n"
        "put, written = FolderTarget.put, []\n"
        "def deadly(target, path, *args, **options):\n"
        "    written.append(path)\n"
        "    if path.endswith('.json') and len(written) > 3 and 'state' not in path:\n"
        "        os.kill(os.getpid(), 9)\n"
        "    return put(target, path, *args, **options)\n"
        "FolderTarget.put = deadly\n"
        "publishing = Publishing(store=open_store(sys.argv[2]), ledger=sys.argv[3])\n"
        "publish_set(load_prompt_set(pathlib.Path(sys.argv[1])), publishing=publishing)\n"
    )
    producer = shop.studio.image_producer
    arguments = [prompt_set.path, producer.store, producer.ledger]
    ended = subprocess.run([sys.executable, "-c", code, *arguments], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert seen_by_reader(shop) == []
    assert "hat-1" in shop.names()
    report = shop.publish(edited(shop))
    assert (report.written, report.unchanged, report.removed) == (0, 4, 4)
    assert shop.names() == ["shoe-2", "bag-1"]


def test_two_publishers_interleaved_anywhere_leave_a_true_index(
    shop: Shop, tmp_path_factory: pytest.TempPathFactory, wrapped: Callable[[Wrap], None]
) -> None:
    """One stops at each of its operations until the other is through, or waits for the first."""
    tmp_path = tmp_path_factory.mktemp("interleaved")
    shop.publish(shop.write(BEFORE))
    seen: list[str] = []
    alone = copied(shop, tmp_path / "alone")
    wrapped(lambda target: WatchedTarget(target, seen=seen))
    alone.publish(edited(alone))
    for number in (number for number, what in enumerate(seen, 1) if what.startswith(WRITES)):
        one = copied(shop, tmp_path / f"{number}")
        first, second = edited(one), edited(one)
        second = replace(second, choice=replace(second.choice, kind="all", path=None))
        interleave(one, first, second, number, wrapped)
        assert seen_by_reader(one) == [], number
        assert one.publish(first).problems == ()
        assert one.names() == ["shoe-2", "bag-1"]
        assert "shoe-1-web.webp" not in one.files()


def test_what_another_publisher_has_made_meanwhile_is_not_made_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, wrapped: Callable[[Wrap], None]
) -> None:
    prompt_set, rendered, locked = shop.write(BEFORE), [], []
    render = Renderer.render

    def counted(renderer: Renderer, image: Any, numbers: Any) -> Any:
        rendered.extend(numbers)
        return render(renderer, image, numbers)

    def let_other_in(_number: int, what: str) -> None:
        if what == "exclusive":
            locked.append(what)
            if len(locked) == 2:  # its files are written, its index is not
                wrapped(lambda target: target)
                shop.publish(prompt_set)

    monkeypatch.setattr(Renderer, "render", counted)
    wrapped(lambda target: WatchedTarget(target, before=let_other_in))
    report = shop.publish(prompt_set)
    assert (len(rendered), report.written, report.problems) == (2 * 6, 6, ())
    assert seen_by_reader(shop) == []
    assert shop.publish(prompt_set).written == 0


def interleave(
    shop: Shop, first: Any, second: Any, number: int, wrapped: Callable[[Wrap], None]
) -> None:
    """Publish the second before the n-th operation of the first, as far as it is let in there."""
    went_on = threading.Event()
    waiting = []

    def run_other(done: int, _what: str) -> None:
        if done == number:
            waiting.append(pool.submit(shop.publish, second, on_wait=went_on.set))
            waiting[0].add_done_callback(lambda _: went_on.set())
            assert went_on.wait(60)
            assert seen_by_reader(shop) == []

    opened: list[Target] = []

    def wrap(target: Target) -> Target:
        opened.append(target)
        return WatchedTarget(target, before=run_other) if len(opened) == 1 else target

    wrapped(wrap)
    with ThreadPoolExecutor(1) as pool:
        shop.publish(first)
        for each in waiting:
            each.result(60)
    wrapped(lambda target: target)
    assert waiting
