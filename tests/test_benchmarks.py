"""What is measured was compiled, and the table of the documents is that of the kept figures."""

import os
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from benchmarks.compiled import compile_package
from benchmarks.results import load
from benchmarks.table import PAGE, table

PACKAGE = Path(__file__).parents[1] / "flux_pipeline"


def test_every_module_is_compiled_before_it_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    compile_package()
    assert "PYTHONDONTWRITEBYTECODE" not in os.environ  # which measured processes would inherit
    assert [
        path for path in PACKAGE.rglob("*.py") if not Path(cache_from_source(str(path))).exists()
    ] == []


def test_the_performance_page_shows_the_kept_figures() -> None:
    assert table(load()) in PAGE.read_text(encoding="utf-8")
