"""The page itself: one HTML file with its style and script inside, the same for every gallery.

Its policy allows this script and this style by their hashes, and the files that the script adds;
no other script, no other host, no form. What differs is data: a title and a block of JSON.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

from flux_pipeline.gallery.pages import to_json

_SCRIPTS = ("words.js", "data.js", "filters.js", "grid.js", "panel.js", "viewer.js", "page.js")


def render_page(title: str, data: Mapping[str, Any]) -> bytes:
    """The page with this title, that shows what ``data`` lists."""
    style = _read("page.css")
    code = "".join(map(_read, _SCRIPTS))
    script = f'"use strict";\n(() => {{\n{code}}})();\n'
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}' 'strict-dynamic'; style-src"
        f" '{_hash(style)}'; img-src 'self' file: data:; base-uri 'none'; form-action 'none';"
        " require-trusted-types-for 'script'; trusted-types flux-gallery"
    )
    values = {
        "policy": policy,
        "title": escape(title),
        "style": style,
        "script": script,
        "data": to_json(data),
    }
    # In one pass: a title that looks like a place is not filled in again.
    page = re.sub(r"\{\{(\w+)\}\}", lambda place: values[place[1]], _read("page.html"))
    return page.encode()


def _read(name: str) -> str:
    return (files("flux_pipeline.gallery") / "page" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
