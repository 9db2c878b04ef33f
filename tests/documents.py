"""The repository's documents: their fenced blocks, tables and links."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")),
)
_FENCE = re.compile(r"^```(\w*) ?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
_SHELL_ENDS = {"&", "&&", "|", ">", ";"}


@dataclass(frozen=True)
class Block:
    document: str
    language: str
    path: str
    """Where the block's text lies as a file; empty for none."""
    text: str

    def __str__(self) -> str:
        return f"{self.document}: {self.text.partition(chr(10))[0]}"


@cache
def read(document: str) -> str:
    return (ROOT / document).read_text("utf-8")


def blocks(language: str = "", document: str = "") -> list[Block]:
    """The blocks of one language, or with a path, in the order in which they stand."""
    return [
        Block(name, *fence.groups())
        for name in ([document] if document else DOCUMENTS)
        for fence in _FENCE.finditer(read(name))
        if not language or fence[1] == language
    ]


def write_files(folder: Path) -> None:
    """Write every block that has a path, and the picture that they speak of."""
    for block in blocks():
        if block.path and block.language != "diff":
            (folder / block.path).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.path).write_text(block.text)
    picture = folder / "configs/refs/street.jpg"
    picture.parent.mkdir(parents=True)
    Image.new("RGB", (640, 480), "navy").save(picture)


def links(document: str) -> Iterator[str]:
    return (link[1] for link in _LINK.finditer(_FENCE.sub("", read(document))))


def without_changes(document: str) -> str:
    """A document without what it proposes to put into the code."""
    return _FENCE.sub(lambda fence: "" if fence[1] == "diff" else fence[0], read(document))


def words(text: str) -> list[str]:
    """The words of a text outside of its blocks, without the addresses of its links."""
    return re.findall(r"[^\W_][\w'’.-]*", _LINK.sub("] ", _FENCE.sub("", text)))


def table(document: str, *heading: str) -> list[list[str]]:
    """The cells below the table with this heading, without backticks."""
    lines = iter(read(document).splitlines())
    start = f"| {' | '.join(heading)} |"
    assert any(line == start for line in lines), f"{document} has no table {start}"
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        cells = line.replace("\\|", "\0").strip("|").split("|")
        rows.append([cell.replace("\0", "|").replace("`", "").strip() for cell in cells])
    return rows


def names(cell: str) -> list[str]:
    """The names in a cell, which commas part."""
    return [name.strip() for name in cell.split(",")]


def exchanges(block: Block) -> Iterator[tuple[list[str], str]]:
    """Each command of a console block with what it prints."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        yield shlex.split(command), printed


def shell_commands(program: str) -> list[tuple[str, list[str]]]:
    """The document and arguments of every line of a shell block that starts this program."""
    found = []
    for block in blocks("sh"):
        for line in block.text.splitlines():
            words = shlex.split(line, comments=True)
            if program in words:
                rest = words[words.index(program) + 1 :]
                ends = [at for at, word in enumerate(rest) if word in _SHELL_ENDS]
                found.append((block.document, rest[: min(ends, default=len(rest))]))
    return found


def matches(shown: str, printed: str) -> bool:
    """Whether it is what was printed; ``...`` stands for anything, blanks count as one."""
    wanted = ".*".join(map(re.escape, " ".join(shown.split()).split("...")))
    return re.fullmatch(wanted, " ".join(printed.split()), re.DOTALL) is not None
