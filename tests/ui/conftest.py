"""One installation and one page of a browser for all tests of the web interface."""

import importlib.util
import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.gallery.conftest import FLAGS
from tests.ui.studio import Studio, fill, running_studio

ASKED = "FLUX_TEST_UI"
"""A switch, because workers that share these tests would each start all of it."""
_PATIENCE = 120_000  # ms, until what a page should show must be there


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    if not os.environ.get(ASKED):
        pytest.skip(f"takes three minutes: {ASKED}=1 pytest -n 0 tests/ui")
    if importlib.util.find_spec("dagster_webserver") is None:
        pytest.skip("needs the web interface: uv sync --extra ui")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS.split())
        page = browser.new_page(viewport={"width": 1500, "height": 1000})
        page.set_default_timeout(_PATIENCE)
        expect.set_options(timeout=_PATIENCE)
        yield page
        browser.close()


@pytest.fixture(scope="module")
def studio(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """Dagster on the shipped prompt sets; after the browser, so that without one nothing starts."""
    folder = tmp_path_factory.mktemp("studio")
    fill(folder)
    with running_studio(folder) as studio:
        yield studio
