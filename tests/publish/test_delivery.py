"""A reader never finds a file missing that the index names: killed anywhere, and beside others."""

import gc
import json
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from flux_pipeline.prompts.publication import Publication
from flux_pipeline.publish.delivery import Delivery
from flux_pipeline.publish.publisher import take_down
from flux_pipeline.publish.renderer import Renderer
from flux_pipeline.publish.scratch import Scratch
from flux_pipeline.publish.selection import ChosenImage, Selection
from flux_pipeline.publish.state import FileFacts, PictureFacts, State
from flux_pipeline.publish.taken_down import find_taken_down
from flux_pipeline.store.base import StoredObject
from flux_pipeline.store.local import FolderStore
from flux_pipeline.store.target import FolderTarget, Target
from flux_pipeline.variant import VariantSpec
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


class PausedStore(FolderStore):
    """Calls a function before the first note of a picture that is taken down."""

    pause: Callable[[], object] | None = None

    def put(self, key: str, body: bytes, *, content_type: str) -> StoredObject:
        pause, self.pause = self.pause, None
        if pause is not None:
            pause()
        return super().put(key, body, content_type=content_type)


def test_of_two_people_who_take_one_picture_down_at_once_both_are_noted(
    shop: Shop, tmp_path: Path
) -> None:
    prompt_set = shop.write()
    shop.publish(prompt_set)
    store = PausedStore(tmp_path / "notes")
    publishing = replace(shop.publishing, store=store)
    waits = threading.Event()

    def take(by: str, on_wait: Callable[[], None] | None = None) -> None:
        take_down(prompt_set, ["hat"], reason="x", by=by, publishing=publishing, on_wait=on_wait)

    with ThreadPoolExecutor(1) as pool:
        others = []

        def let_other_begin() -> None:
            others.append(pool.submit(take, "Bob", waits.set))
            others[0].add_done_callback(lambda _: waits.set())
            assert waits.wait(60)

        store.pause = let_other_begin
        take("Ann")
        others[0].result(60)
    (taken,) = find_taken_down(store, "shop")
    assert [event.by for event in taken.events] == ["Ann", "Bob"]


def peak_of_publishing(folder: Path, count: int) -> int:
    """The most bytes that Python held while all alt texts of so many pictures were changed.

    The pictures are published already, by files that are written here.
    """
    variant = VariantSpec(name="web")
    publication = Publication(name="{name}.webp", variants=(variant,), feed="json")
    renderer = Renderer(FolderStore(folder), (variant,))
    target, state = FolderTarget(folder), State(Scratch())
    selection = Selection(publication)
    names = [f"product-{number:05}" for number in range(count)]
    for name in names:
        (folder / f"{name}.webp").write_bytes(b"x")
    tags = {file.path: file.tag for file in target.find()}
    for number, name in enumerate(names):
        file = FileFacts(
            path=f"{name}.webp",
            made_by=renderer.keys[0],
            tag=tags[f"{name}.webp"],
            sha256="a" * 64,
            bytes=1,
            width=1,
            height=1,
        )
        facts = PictureFacts(
            partition="all",
            prompt_name=name,
            take=1,
            output_index=0,
            source_sha256="b" * 64,
            published_at="2026-11-29T08:00:00Z",
            color="#ffffff",
            placeholder="data:image/webp;base64," + "A" * 200,
            files=(file,),
        )
        image = ChosenImage(
            name=name,
            alt=f"product no. {number}, studio light " * 3,
            prompt=f"product no. {number}, studio light " * 3,
            partition="all",
            prompt_name=name,
            take=1,
            output_index=0,
            request_sha256=f"{number:064}",
            image_sha256="c" * 64,
            file_sha256="b" * 64,
            source_uri=f"file:///store/images/shop/{name}-{number:016}-0.webp",
            made_at="2026-11-29T08:00:00Z",
            has_sidecar=False,
            paths=(file.path,),
        )
        selection.add(image)
        state.add(name, facts)
    (folder / ".index-state.json").write_bytes(b"".join(state.body()))
    delivery = Delivery("shop", selection, target, renderer, now=partial(datetime.now, UTC))
    gc.collect()
    tracemalloc.start()
    try:
        done = delivery.run()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (done.unchanged, done.written, done.problems) == (count, 0, [])
    assert len(json.loads((folder / "index.json").read_bytes())["images"]) == count
    return peak


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path: Path) -> None:
    peaks = {}
    for count in (20, 100, 400):  # the first one pays for what is loaded once
        (tmp_path / f"{count}").mkdir()
        peaks[count] = peak_of_publishing(tmp_path / f"{count}", count)
    # The index, its table and the state have 2,500 bytes a picture.
    assert (peaks[400] - peaks[100]) / 300 < 1000
