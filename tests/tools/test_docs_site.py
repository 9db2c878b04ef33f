"""The documents as a site: every page in the navigation, links that lead somewhere, search."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tests.gallery.conftest import FLAGS
from tools.docs_site import ROOT, ROOT_PAGES, build_site, misplaced_pages, page_of

needs_generator = pytest.mark.skipif(
    find_spec("zensical") is None,
    reason="needs the site's generator: uv sync --group docs, or make docs",
)


def test_every_document_stands_in_the_navigation_once() -> None:
    assert list(misplaced_pages(ROOT)) == []


def test_a_document_that_the_navigation_lacks_is_named(tmp_path: Path) -> None:
    repository(
        tmp_path, {"docs/how-do-i.md": "# How do I", "docs/new.md": "# New"}, nav="how-do-i.md"
    )
    assert list(misplaced_pages(tmp_path)) == [
        "mkdocs.yml: nav lists new.md 0 times; it belongs there once"
    ]


def test_links_lead_to_the_one_folder_of_the_site() -> None:
    text = (
        "[a](../README.md#install) [b](prompt-sets.md#seeds) [c](#here) [d](https://x.example/y.md)"
    )
    assert page_of(text, "docs/dagster.md") == text.replace("../README.md", "index.md")
    assert page_of("![g](docs/images/g.webp)", "README.md") == "![g](images/g.webp)"
    kept = "```sh\ncat [x](docs/y.md)\n```"
    assert page_of(kept, "README.md") == kept


def test_the_path_of_a_block_is_its_title() -> None:
    assert page_of("```yaml configs/a.yaml\nmodel: x\n```\n", "README.md") == (
        '```yaml title="configs/a.yaml"\nmodel: x\n```\n'
    )


@needs_generator
def test_what_leads_nowhere_or_is_read_otherwise_stops_the_build(tmp_path: Path) -> None:
    text = "# How do I\n\n[there](lost.md) [here](#lost)\n"
    repository(tmp_path, {"docs/how-do-i.md": text}, nav="how-do-i.md")
    assert build_site(tmp_path) == ["zensical found what is named above"]
    # GitHub sees a list here; the site's Markdown wants a blank line before it.
    (tmp_path / "docs/how-do-i.md").write_text("# How do I\n\ntwo:\n- a\n- b\n")
    assert build_site(tmp_path) == [
        "docs/how-do-i.md: the site shows 0 <li> instead of 2, 0 <ul> instead of 1"
    ]


@needs_generator
def test_a_word_inside_a_chinese_sentence_is_found_without_a_server(tmp_path: Path) -> None:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs a browser: apt-get install chromium")
    text = "# Cats\n\n```yaml\nprompts: {cat: 一只橘猫坐在窗台上，水彩画}\n```\n"
    repository(tmp_path, {"docs/how-do-i.md": text}, nav="how-do-i.md")
    assert build_site(tmp_path) == []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS.split())
        page = browser.new_page()
        page.set_default_timeout(120_000)  # ms; it guards against hanging alone
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "build/site/index.html").as_uri())
        page.keyboard.press("/")
        page.get_by_role("combobox").or_(page.get_by_role("textbox")).first.fill("窗台")
        page.get_by_text("1 result").wait_for()
        browser.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:", "about:"))] == []


def repository(folder: Path, documents: dict[str, str], *, nav: str) -> None:
    """A folder with these documents, one line in each of the root's, and this site's settings."""
    (folder / "docs").mkdir()
    (folder / "tools").mkdir()
    shutil.copy(ROOT / "tools/iframe_worker.js", folder / "tools")
    for name in ROOT_PAGES:
        (folder / name).write_text(f"# {name}\n")
    for name, text in documents.items():
        (folder / name).write_text(text)
    settings = (ROOT / "mkdocs.yml").read_text("utf-8")
    before, after = settings[: settings.index("nav:")], settings[settings.index("theme:") :]
    lines = "".join(f"  - {entry}\n" for entry in [*ROOT_PAGES.values(), nav])
    (folder / "mkdocs.yml").write_text(f"{before}nav:\n{lines}{after}")
