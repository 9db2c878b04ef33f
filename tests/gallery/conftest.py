"""Fixtures of the gallery's tests: a store that counts, and one Chromium for a module."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.gallery.counting_store import CountingStore

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.gallery.visit import Visit, Visiting

FLAGS = (
    "--no-sandbox --disable-gpu --in-process-gpu --disable-quic --no-first-run"
    " --disable-background-networking --disable-component-update --disable-sync"
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CountingStore:
    """An empty store that counts, and doesn't wait for the disk."""
    monkeypatch.setattr(os, "fsync", bool)
    return CountingStore(tmp_path / "store")


@pytest.fixture(scope="module")  # while it is open, no other test can run an event loop
def chromium() -> "Iterator[Browser]":
    from playwright.sync_api import expect, sync_playwright

    from tests.gallery.visit import PATIENCE

    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=FLAGS.split(), timeout=PATIENCE
        )
        expect.set_options(timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def window(chromium: "Browser") -> "Visit":
    """One window for all visits that it can be set up for: a new one takes a second of CPU."""
    from tests.gallery.visit import Visit

    return Visit(chromium.new_page())


@pytest.fixture
def visit(chromium: "Browser", window: "Visit") -> "Iterator[Visiting]":
    """Open an address; at the end no page may have complained of anything.

    With ``touch``, or with ``waiting``, in a window of its own.
    """
    from tests.gallery.visit import Visit

    visits: list[Visit] = []

    def start(address: str, *, waiting: str = "", touch: bool = False, **setup: Any) -> Visit:
        alone = bool(waiting or touch)
        seen = Visit(chromium.new_context(has_touch=touch).new_page()) if alone else window
        visits.append(seen)
        if waiting:  # these files don't come before they are let go
            seen.page.route(waiting, seen.hold)
        seen.set_up(**setup)
        return seen.open(address)

    yield start
    for each in visits:
        each.check()
        if each is not window:
            each.page.context.close()
    window.restore()
