"""A visit of a gallery in a browser, which notices everything that the page complains of."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Locator, Page, Request, Route, expect

PATIENCE = 120_000
"""ms, until what a page should show must be there: it guards against hanging alone."""
SIZE = (1280, 720)
"""px, of a window for which a test asks nothing else."""
WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation",
  (event) => violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""


@dataclass
class Visit:
    """One page that is looked at, and everything that it complained of."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    held: list[Route] = field(default_factory=list)
    """Requests that wait until they are let go."""

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.add_init_script(WATCH)

    def set_up(
        self, *, size: tuple[int, int] = SIZE, permissions: Sequence[str] = (), **media: Any
    ) -> None:
        """Give the window this size (px), these permissions, and what its user prefers."""
        self.page.set_viewport_size({"width": size[0], "height": size[1]})
        if permissions:
            self.page.context.grant_permissions(permissions)
        if media:
            self.page.emulate_media(**media)

    def restore(self) -> None:
        """Take back what a test has set up, and forget what the page has kept in the browser."""
        if self.page.url != "about:blank":  # which may keep nothing
            self.page.evaluate("localStorage.clear()")
        self.page.context.clear_permissions()
        self.page.emulate_media(color_scheme="null", reduced_motion="null")

    @contextmanager
    def requests(self) -> Iterator[list[str]]:
        """The addresses that the page asks for meanwhile."""
        asked: list[str] = []

        def note(request: Request) -> None:
            asked.append(request.url)

        self.page.on("request", note)
        yield asked
        self.page.remove_listener("request", note)

    def open(self, address: str) -> "Visit":
        """Load an address anew, even where only what is behind its ``#`` differs."""
        self.check()
        self.page.goto("about:blank")
        self.page.goto(address)
        self.page.wait_for_selector("html[data-ready]")
        return self

    def check(self) -> None:
        """The page complained of nothing so far, and no text of it ran."""
        said, hacked = self.page.evaluate(
            """() => {
              const said = (window.violations ?? []).splice(0), hacked = window.hacked;
              delete window.hacked;
              return [said, hacked];
            }"""
        )
        complaints = [*self.complaints, *said]
        self.complaints.clear()  # so that the next visit in this window has none of them
        assert (complaints, hacked) == ([], None)

    def tiles(self) -> Sequence[str]:
        """The prompts of the tiles, in the order of the document, as they are at one moment."""
        found: list[str] = self.page.evaluate(
            """() => [...document.querySelectorAll(".tile")].map((tile) =>
              tile.querySelector("img")?.alt ?? tile.querySelector(".reason")?.innerText ?? "")"""
        )
        return found

    def search(self, text: str) -> None:
        self.page.get_by_label("Search prompts").fill(text)
        self.page.wait_for_function(
            "q => new URLSearchParams(location.hash.slice(1)).get('q') == q", arg=text
        )

    def hold(self, route: Route) -> None:
        """Let a request wait."""
        self.held.append(route)

    def choose(self, label: str, value: str) -> None:
        """Choose from a list, and wait until the page shows what was chosen."""
        self.page.get_by_label(label).select_option(value)
        expect(self.page).to_have_url(re.compile(rf"[#&]\w+={value}(&|$)"))

    def leave(self, button: Locator) -> None:
        """Close the viewer; once the focus is back on its tile, nothing is still to come."""
        self.page.keyboard.press("Escape")
        expect(self.page.locator("#viewer")).to_be_hidden()
        expect(button).to_be_focused()

    def wait(self, what: Callable[[], object]) -> None:
        """Wait for what the browser tells by itself."""
        deadline = time.monotonic() + PATIENCE / 1000
        while not what():
            assert time.monotonic() < deadline
            self.page.wait_for_timeout(20)

    def count(self, words: str) -> None:
        expect(self.page.locator("#count")).to_have_text(words)

    def fact(self, name: str) -> str:
        return self.page.locator(f"#panel dd[data-field={name}]").inner_text()


Visiting = Callable[..., Visit]
