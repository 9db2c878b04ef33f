"""Fixtures of the gallery's tests: a store that counts, and one Chromium for a module."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.gallery.counting_store import CountingStore

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
)
PATIENCE = 120_000
"""ms, until what a page should show must be there: it guards against hanging alone."""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CountingStore:
    """An empty store that counts, and doesn't wait for the disk."""
    monkeypatch.setattr(os, "fsync", bool)
    return CountingStore(tmp_path / "store")


@pytest.fixture(scope="module")  # while it is open, no other test can run an event loop
def chromium() -> "Iterator[Browser]":
    from playwright.sync_api import expect, sync_playwright

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
