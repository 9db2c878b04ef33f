"""Templates escape what they are given, and refuse to be filled in by half."""

import pytest
from jinja2 import UndefinedError

from flux_pipeline.html import csp_hash, render_template

GALLERY = ("flux_pipeline.gallery", "page/page.html.jinja")
SAFE = {"policy": "", "style": "", "data": "{}", "script": ""}


def test_a_value_is_escaped_and_is_no_template() -> None:
    page = render_template(*GALLERY, title="<b>{{ script }}\"'</b>", **SAFE)
    assert "<h1>&lt;b&gt;{{ script }}&#34;&#39;&lt;/b&gt;</h1>" in page


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="title"):
        render_template(*GALLERY, **SAFE)


def test_a_hash_is_as_a_browser_makes_it() -> None:
    assert csp_hash("") == "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
