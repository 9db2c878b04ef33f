"""``docs/architecture.md`` names every module, in the words of the module's own docstring."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "flux_pipeline"
DOCUMENT = ROOT / "docs" / "architecture.md"


def table_of_modules() -> str:
    """The table as it should be: modules of the package itself first, then package by package."""
    modules = [
        path for path in PACKAGE.rglob("*.py") if path.name not in {"__init__.py", "__main__.py"}
    ]
    modules.sort(key=lambda path: (path.parent != PACKAGE, path.relative_to(PACKAGE).as_posix()))
    return "".join(
        f"| `{path.relative_to(PACKAGE).as_posix()}` | {first_sentence(path)} |\n"
        for path in modules
    )


def first_sentence(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(docstring.partition("\n\n")[0].split()).replace("``", "`").replace("|", "\\|")


def test_every_module_stands_in_the_table_with_what_it_does() -> None:
    """To write it anew, put ``table_of_modules()`` below the heading "Where is what"."""
    _, _, written = DOCUMENT.read_text().partition("| module | what it does |\n|---|---|\n")

    assert written == table_of_modules()


def test_the_walk_of_a_prompt_names_modules_that_exist() -> None:
    _, _, walk = DOCUMENT.read_text().partition("## One prompt, from YAML to the stored image\n")
    walk, _, _ = walk.partition("\n## ")
    named = {word for word in walk.replace("\n", " ").split("`")[1::2] if word.endswith(".py")}

    assert len(named) > 15
    assert {name for name in named if not (PACKAGE / name).is_file()} == set()
