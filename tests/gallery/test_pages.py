"""Files of data: whatever the text, they are one call with that text, and nothing else."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.gallery.page import data_file, data_lines, render_page, to_json
from tests.gallery.samples import HOSTILE, SCRIPTS

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
    body = data_file("rows", "winter", 3, lines)
    assert data_lines(body) == lines
    arguments = body.decode().removeprefix("fluxGallery(").removesuffix(");\n")
    assert json.loads(f"[{arguments}]") == ["rows", "winter", 3, rows]


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
