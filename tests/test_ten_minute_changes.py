"""The ten-minute changes are made in a copy of the tree, from the document that describes them.

Each touches the files that CONTRIBUTING names and no other, and the tests that stand below it pass
with all of them made.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import documents
from tests.documents import ROOT

DOCUMENT = "docs/ten-minute-changes.md"
CHANGES = ("A check", "A setting", "A command", "A store", "A model")
PROGRAMS = Path(sys.executable).parent
PYTEST = ".venv/bin/pytest "


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is committed, as it is on the disk, with programs that run on the copy."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        pytest.skip("needs a git checkout: the copy is of its files")
    copy = tmp_path_factory.mktemp("tree")
    for name in filter(None, found.stdout.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    for package in ("flux_pipeline", "tests"):  # what is compiled is valid for the copies
        for compiled in (ROOT / package).rglob("__pycache__"):
            shutil.copytree(compiled, copy / compiled.relative_to(ROOT))
    documents.write_files(copy / "documents")
    shutil.move(copy / "documents/ten", copy / "ten")
    write_programs(copy / "programs")
    return copy


@pytest.fixture(scope="module")
def touched(tree: Path) -> dict[str, set[str]]:
    """All changes are made; by the name of each the files that it touched."""
    found = {}
    for name in CHANGES:
        before = contents(tree)
        for block in blocks(name):
            if block.language == "diff":
                apply(block.text, tree / block.path)
            else:
                run_lines(block.text, tree)
        after = contents(tree)
        found[name] = {
            path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
        }
    return found


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_touches_the_files_that_are_named(touched: dict[str, set[str]], name: str) -> None:
    rows = dict(documents.table("CONTRIBUTING.md", "change", "touch"))
    named = set(re.findall(r"[\w./]*[./][\w./]*\w/?", rows[name.lower()]))
    unnamed = {
        path
        for path in touched[name]
        if path not in named and not any(path.startswith(each) for each in named if each[-1] == "/")
    }
    untouched = {each for each in named if not any(path.startswith(each) for path in touched[name])}
    assert (unnamed, untouched) == (set(), set())


def test_the_tests_below_the_changes_pass_with_all_of_them(
    tree: Path, touched: dict[str, set[str]]
) -> None:
    assert touched
    lines = [line for name in CHANGES for block in blocks(name) for line in block.text.splitlines()]
    tests = [word for line in lines if line.startswith(PYTEST) for word in line.split()[1:]]
    command = ["pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    run([sys.executable, "-m", *command, *dict.fromkeys(tests)], tree)


def test_the_layers_and_the_linter_agree(tree: Path, touched: dict[str, set[str]]) -> None:
    run([PROGRAMS / "lint-imports"], tree)
    changed = sorted(path for paths in touched.values() for path in paths if path.endswith(".py"))
    run([PROGRAMS / "ruff", "check", *changed], tree)
    run([PROGRAMS / "ruff", "format", "--check", *changed], tree)


def test_the_types_agree(tree: Path, touched: dict[str, set[str]]) -> None:
    """Where `make lint` has left its cache: without one this takes twenty seconds of CPU."""
    assert touched
    known = Path(f".mypy_cache/{sys.version_info.major}.{sys.version_info.minor}")
    if not (ROOT / known).is_dir():  # what lies beside it is of tests/test_package.py
        pytest.skip("needs the cache of mypy: make lint")
    shutil.copytree(ROOT / known, tree / known)
    run([PROGRAMS / "mypy"], tree)


def blocks(change: str) -> Iterator[documents.Block]:
    """The blocks below one heading of the document."""
    text = documents.read(DOCUMENT)
    start = text.index(f"\n## {change}\n")
    end = text.find("\n## ", start + 1)
    for block in documents.blocks(document=DOCUMENT):
        at = text.index(block.text)
        if start < at and (end == -1 or at < end):
            yield block


def apply(change: str, path: Path) -> None:
    """Make a change in a file, where the lines without a ``+`` stand exactly once."""
    lines = [(line[:1], line[1:]) for line in change.splitlines()]
    old = [text for sign, text in lines if sign != "+"]
    if not old:
        assert not path.exists(), f"{path} is there already"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{text}\n" for _, text in lines))
        return
    there = path.read_text("utf-8").splitlines()
    places = [
        at
        for at in range(len(there) - len(old) + 1)
        if all(is_line(*pair) for pair in zip(old, there[at:], strict=False))
    ]
    assert len(places) == 1, f"{path} holds these lines {len(places)} times:\n{change}"
    following = iter(there[places[0] :])
    new = []
    for sign, text in lines:
        if sign == "+":
            new.append(text)
        elif (kept := next(following)) and sign == " ":
            new.append(kept)
        elif sign == " ":
            new.append("")
    there[places[0] : places[0] + len(old)] = new
    path.write_text("\n".join([*there, ""]), "utf-8")


def is_line(shown: str, line: str) -> bool:
    return line.startswith(shown[:-3]) if shown.endswith("...") else line == shown


def contents(tree: Path) -> dict[str, bytes]:
    """Every file of the package, the tests and the documents, and those beside them."""
    paths = [
        *tree.glob("*"),
        *(p for d in ("flux_pipeline", "tests", "docs") for p in (tree / d).rglob("*")),
    ]
    return {
        str(path.relative_to(tree)): path.read_bytes()
        for path in paths
        if path.is_file() and "__pycache__" not in path.parts
    }


def write_programs(folder: Path) -> None:
    """`flux-pipeline` and `make` as the document calls them, for a copy without an environment."""
    folder.mkdir()
    programs = {
        "flux-pipeline": f'exec "{sys.executable}" -m flux_pipeline.cli "$@"',
        "make": f'exec "{shutil.which("make")}" -o .venv/.synced BIN="{PROGRAMS}" "$@"',
    }
    for name, line in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)


def run_lines(text: str, tree: Path) -> None:
    """Run the lines of a shell block, but for those that run tests."""
    lines = [line for line in text.splitlines() if not line.startswith(PYTEST)]
    if lines:
        run(["bash", "-euc", "\n".join(lines)], tree)


def run(command: list[str | Path], tree: Path) -> None:
    environ = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ} | {
        "PATH": os.pathsep.join([str(tree / "programs"), os.environ["PATH"]]),
        "PYTHONPATH": str(tree),
    }
    done = subprocess.run(
        command, cwd=tree, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
