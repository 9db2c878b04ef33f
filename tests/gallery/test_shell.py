"""The page: one file, whose policy allows what is in it and nothing from elsewhere."""

import base64
import hashlib
import re

from flux_pipeline.gallery.page import render_page

PAGE = render_page("winter", {"title": "winter"}).decode()


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
