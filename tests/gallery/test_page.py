"""The page allows what is in it and nothing from elsewhere; its files of data are only data."""

import base64
import hashlib
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.gallery.page import data_file, data_lines, render_page, to_json
from tests.gallery.samples import HOSTILE, SCRIPTS

PAGE = render_page("winter", {"title": "winter"}).decode()
LINES = st.lists(st.lists(st.text(max_size=30), min_size=1, max_size=3), max_size=5)


@given(st.text())
def test_any_text_reads_back_and_means_nothing_to_html_or_a_data_file(text: str) -> None:
    written = to_json(text)
    assert json.loads(written) == text
    assert not re.search("[<>&\u2028\u2029\x85\n\r]", written)


@pytest.mark.parametrize("text", [*HOSTILE, *SCRIPTS.values()])
def test_texts_of_every_kind_read_back(text: str) -> None:
    assert json.loads(to_json({"prompt": text})) == {"prompt": text}
    assert "<" not in to_json(text)


@given(LINES)
def test_a_file_gives_back_the_lines_that_it_was_made_of(rows: list[list[str]]) -> None:
    lines = [to_json(row) for row in rows]
    body = data_file("chapter", "winter", 3, lines)
    assert data_lines(body) == lines
    arguments = body.decode().removeprefix("fluxGallery(").removesuffix(");\n")
    assert json.loads(f"[{arguments}]") == ["chapter", "winter", 3, rows]


@pytest.mark.parametrize("body", [b"", b"fluxGallery(", b"<!doctype html>", b"\xff\xfe"])
def test_another_file_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"no file of a gallery's data|can't decode"):
        data_lines(body)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_title_and_data_stay_what_they_are(text: str) -> None:
    hostile = "{{script}}</title></script><script>" + text
    page = render_page(hostile, {"title": hostile}).decode()
    plain = render_page("t", {"title": "t"}).decode()
    assert page.count("<script") == plain.count("<script") == 2
    assert page.count("</script") == 2
    (data,) = re.findall(r'id="gallery-data">(.*?)</script>', page, re.DOTALL)
    assert json.loads(data) == {"title": hostile}


def fingerprint(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_policy_allows_this_script_this_style_and_pictures_alone() -> None:
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', PAGE)
    (style,) = re.findall(r"<style>(.*?)</style>", PAGE, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", PAGE, re.DOTALL)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules == {
        "default-src": "'none'",
        "script-src": f"{fingerprint(script)} 'strict-dynamic'",
        "style-src": fingerprint(style),
        "img-src": "'self' file: data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "flux-gallery",
    }


def test_no_address_of_another_host_and_no_way_to_make_code_of_text() -> None:
    assert not re.search(r"https?://|javascript:|\sstyle=|\son\w+=", PAGE)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function", PAGE
    )


def test_every_page_has_the_same_script_so_one_fingerprint_can_be_trusted() -> None:
    other = render_page("summer", {"title": "summer", "sets": []}).decode()
    policies = [re.findall(r'Policy" content="([^"]*)"', page) for page in (PAGE, other)]
    assert policies[0] == policies[1]


def test_without_scripts_the_page_says_what_is_needed() -> None:
    (said,) = re.findall(r"<noscript>(.*?)</noscript>", PAGE, re.DOTALL)
    assert "needs JavaScript" in said
    assert "lineage/current.parquet" in said
