"""Builds the documents as a site: `make docs`, which installs Zensical, runs this.

The documents are written for reading in the repository. What differs on a site is changed in a copy
below `build/docs`: the README is its first page, pages of the root lie beside those of `docs/`, and
diagrams are drawn here, so that nothing is fetched where the site is read.

The build fails where a link or an anchor leads nowhere, a document is not in the navigation, the
site's Markdown reads lists, tables or blocks otherwise than GitHub's, or a page would load
something from elsewhere.
"""

import posixpath
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import yaml
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[1]
ROOT_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
    "CHANGELOG.md": "CHANGELOG.md",
}
SHIM = "https://unpkg.com/iframe-worker/shim"
STYLE = """\
/* Diagrams are drawn once, on white, for both colour schemes. */
.diagram { background: #fff; border-radius: .2rem; overflow-x: auto; padding: .4rem; }
.diagram svg { display: block; margin: auto; }
"""
_FENCE = re.compile(r"^```(\w*)(?: ([^\n]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
_COUNTED = ("h1", "h2", "h3", "h4", "pre", "table", "tr", "td", "li", "ul", "ol")
_LOADING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


def main() -> None:
    """Build the site of this repository into `build/site`."""
    mistakes = build_site(ROOT)
    sys.exit("\n".join(mistakes) if mistakes else None)


def build_site(root: Path) -> list[str]:
    """Build the site of a folder that holds a repository, and return what is wrong with it."""
    build = root / "build"
    shutil.rmtree(build, ignore_errors=True)
    (build / "docs").mkdir(parents=True)
    mistakes = list(misplaced_pages(root))
    write_pages(root, build / "docs")
    program = Path(sys.executable).with_name("zensical")
    done = subprocess.run([program, "build", "--strict", "--clean"], cwd=root, check=False)  # noqa: S603  our own build
    if done.returncode != 0:
        return [*mistakes, "zensical found what is named above"]
    serve_worker(build / "site")
    print(f"file://{build / 'site' / 'index.html'}")
    return [*mistakes, *misread_pages(root, build / "site"), *loading_pages(build / "site")]


def pages(root: Path) -> dict[str, Path]:
    """Every document of the repository by the name of its page."""
    return {page: root / name for name, page in ROOT_PAGES.items()} | {
        path.name: path for path in sorted((root / "docs").glob("*.md"))
    }


def misplaced_pages(root: Path) -> Iterator[str]:
    """Yield each document that does not stand exactly once in the navigation of `mkdocs.yml`."""
    listed = Counter(_leaves(_navigation(root)))
    there = pages(root)
    for page in sorted({*there, *listed}):
        if page not in there:
            yield f"mkdocs.yml: nav lists {page}, which is no document"
        elif listed[page] != 1:
            yield f"mkdocs.yml: nav lists {page} {listed[page]} times; it belongs there once"


def _navigation(root: Path) -> object:
    text = (root / "mkdocs.yml").read_text("utf-8")
    return yaml.safe_load(text[text.index("\nnav:") : text.index("\ntheme:")])["nav"]


def _leaves(part: object) -> Iterator[str]:
    match part:
        case str():
            yield part
        case list():
            for each in part:
                yield from _leaves(each)
        case dict():
            yield from _leaves(list(part.values()))


def write_pages(root: Path, folder: Path) -> None:
    """Write the pages and what they show as the site's Markdown needs them."""
    for page, path in pages(root).items():
        (folder / page).write_text(
            page_of(path.read_text("utf-8"), str(path.relative_to(root))), "utf-8"
        )
    if (root / "docs/images").is_dir():  # pictures of the README
        shutil.copytree(root / "docs/images", folder / "images")
    (folder / "site.css").write_text(STYLE)


def page_of(text: str, document: str) -> str:
    """Return a document's text with links, fences and diagrams as the site needs them."""
    parts, end = [], 0
    for fence in _FENCE.finditer(text):
        parts += [_relinked(text[end : fence.start()], document), _block(*fence.groups())]
        end = fence.end()
    return "".join([*parts, _relinked(text[end:], document)])


def _relinked(text: str, document: str) -> str:
    """Lead links to pages and pictures that all lie in one folder."""

    def page(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(document), link[1]))
        return f"]({ROOT_PAGES.get(target) or target.removeprefix('docs/')}"

    return _LINK.sub(page, text)


def _block(language: str, path: str | None, text: str) -> str:
    if language == "mermaid":
        return f'<div class="diagram">\n{_diagram(text)}\n</div>'
    title = f' title="{path}"' if path else ""
    return f"```{language}{title}\n{text}```"


def _diagram(text: str) -> str:
    import mermaidx  # noqa: PLC0415  slow, and only where there is a diagram

    # One line, because a blank one would end the HTML for a reader of Markdown.
    return " ".join(mermaidx.render(text).svg().split())


def serve_worker(site: Path) -> None:
    """Serve with the site what lets its search run from a folder; the generator names a host's."""
    name = "assets/iframe_worker.js"
    shutil.copy(ROOT / "tools/iframe_worker.js", site / name)
    for path in site.glob("*.html"):
        path.write_text(path.read_text("utf-8").replace(SHIM, name), "utf-8")


def misread_pages(root: Path, site: Path) -> Iterator[str]:
    """Yield each page with fewer or more lists, tables or blocks than GitHub's Markdown sees."""
    markdown = MarkdownIt("commonmark").enable("table")
    for page, path in pages(root).items():
        text = _FENCE.sub(lambda f: "" if f[1] == "mermaid" else f[0], path.read_text("utf-8"))
        wanted = _Elements.of(markdown.render(text))
        built = (site / page).with_suffix(".html").read_text("utf-8")
        found = _Elements.of(built.partition("<article")[2].partition("</article>")[0])
        differing = [
            f"{found.counts[tag]} <{tag}> instead of {wanted.counts[tag]}"
            for tag in _COUNTED
            if found.counts[tag] != wanted.counts[tag]
        ]
        if differing:
            yield f"{path.relative_to(root)}: the site shows {', '.join(differing)}"


def loading_pages(site: Path) -> Iterator[str]:
    """Yield each page that would load something from elsewhere."""
    for path in sorted(site.rglob("*.html")):
        for address in _Elements.of(path.read_text("utf-8")).loaded:
            if re.match(r"(https?:)?//", address):
                yield f"{path.relative_to(site)} loads {address}"


class _Elements(HTMLParser):
    """The elements of a page: how many of each, and what they load."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.loaded: list[str] = []

    @classmethod
    def of(cls, html: str) -> "_Elements":
        elements = cls()
        elements.feed(html)
        return elements

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] += 1
        loaded = dict(attrs).get(_LOADING.get(tag, ""))
        if loaded:
            self.loaded.append(loaded)


if __name__ == "__main__":
    main()
