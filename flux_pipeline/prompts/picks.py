"""Reads picks: the file that says which pictures of a prompt set were chosen by a person.

One row a picture, as the gallery downloads it or a spreadsheet saves it; the columns are those of
``COLUMNS``, of which only ``prompt`` is needed. The file names pictures by prompt, take and output.
The checksum beside them tells whether a picture was made anew after it was chosen; without one
nothing can tell.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from flux_pipeline.errors import Problems
from flux_pipeline.prompts.prompt_set import PromptSet
from flux_pipeline.prompts.schema import ByDay, parse_day
from flux_pipeline.prompts.tables import Row, open_table
from flux_pipeline.text import quoted

COLUMNS = ("prompt", "partition", "take", "output", "image_sha256", "note")
"""``partition`` is the day, and there only in sets by day; ``take`` and ``output`` count from 1."""
MAX_NUMBER = 10_000
_WHOLE = re.compile(r"([1-9][0-9]{0,4})(?:\.0+)?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """One picture that was chosen."""

    prompt: str
    """The prompt's name, as in lineage."""
    take: int = 1
    """1-based."""
    output: int = 1
    """1-based: of the images that one request gives."""
    partition: str = ""
    """The day, in sets by day; empty there means every day, and in other sets always."""
    image_sha256: str = ""
    """Of the pixels of the picture that was chosen, 64 hex digits; empty where the row has none."""
    note: str = ""
    row: int = 0
    """1-based, of the file, without its header."""

    @property
    def output_index(self) -> int:
        """0-based, as lineage counts outputs."""
        return self.output - 1

    @property
    def place(self) -> tuple[str, str, int, int]:
        """Partition, prompt, take and output, which no other pick of the file has."""
        return self.partition, self.prompt, self.take, self.output


def picks_of(prompt_set: PromptSet) -> tuple[Pick, ...]:
    """The picks of a set's file; none where it has no such file, or it is not there yet.

    Raises:
        ConfigError: as ``read_picks``.
    """
    path = prompt_set.choice.path
    if path is None:
        return ()
    return read_picks(path, by_day=isinstance(prompt_set.partitions, ByDay))


def read_picks(path: Path, *, by_day: bool = False) -> tuple[Pick, ...]:
    """The picks of a file in its order; none where it is not there.

    Raises:
        ConfigError: It can't be read, or rows are wrong: all of them, each with file and line.
    """
    problems = Problems()
    picks: dict[tuple[str, str, int, int], Pick] = {}
    if not (path.exists() or path.is_symlink()):
        return ()
    for row, line in _rows(path, problems):
        pick = _read_row(path, row, line, problems, by_day=by_day)
        if pick is None:
            continue
        first = picks.setdefault(pick.place, pick)
        if first is not pick:
            message = f"row {pick.row}: stands in row {first.row} already: remove one"
            problems.add(str(path), line, "", message)
    problems.raise_if_any()
    return tuple(picks.values())


def _rows(path: Path, problems: Problems) -> Iterator[tuple[Row, int]]:
    """The rows with a pick and their lines; each row has the names of ``COLUMNS``."""
    try:
        table = open_table(path.parent, path.name)
    except ValueError as error:
        problems.add(str(path), 0, "", str(error))
        return
    names = {name.lower(): name for name in table.columns if name}
    for unknown in names.keys() - set(COLUMNS):
        near = difflib.get_close_matches(unknown, COLUMNS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COLUMNS)}"
        problems.add(str(path), 1, "", f"unknown column {quoted(names[unknown])}; {hint}")
    if "prompt" not in names:
        problems.add(str(path), 1, "", "has no column prompt, which names what was chosen")
        return

    def add(line: int, message: str) -> None:
        problems.add(str(path), line, "", message)

    wanted = {name: names[name] for name in COLUMNS if name in names}
    for row in table.rows([*wanted.values()], add):
        if not row.is_blank:
            values = {name: row.values[column] for name, column in wanted.items()}
            yield row._replace(values=values), row.line


def _read_row(path: Path, row: Row, line: int, problems: Problems, *, by_day: bool) -> Pick | None:
    values = {name: text.strip() for name, text in row.values.items()}
    mistakes = [*_find_mistakes(values, by_day=by_day)]
    for message in mistakes:
        problems.add(str(path), line, "", f"row {row.number}: {message}")
    if mistakes:
        return None
    return Pick(
        prompt=values["prompt"],
        take=_number(values.get("take", "")),
        output=_number(values.get("output", "")),
        partition=values.get("partition", ""),
        image_sha256=values.get("image_sha256", "").lower(),
        note=values.get("note", ""),
        row=row.number,
    )


def _find_mistakes(values: Mapping[str, str], *, by_day: bool) -> Iterator[str]:
    if not values["prompt"]:
        yield "prompt is blank: it names what was chosen"
    for name in ("take", "output"):
        text = values.get(name, "")
        found = _WHOLE.fullmatch(text)
        if text and (found is None or int(found[1]) > MAX_NUMBER):
            yield f"{name} is {quoted(text)}: write a number from 1 on, or leave it blank for 1"
    digest = values.get("image_sha256", "").lower()
    if digest and not _SHA256.fullmatch(digest):
        yield f"image_sha256 is {quoted(digest)}: write 64 hex digits, or leave it blank"
    day = values.get("partition", "")
    if day and not by_day:
        yield "partition is for sets by day: leave it blank"
    elif day:
        try:
            parse_day(day)
        except ValueError:
            yield (
                f"partition is {quoted(day)}: write the day as YYYY-MM-DD; a spreadsheet may have"
                " changed it"
            )


def _number(text: str) -> int:
    found = _WHOLE.fullmatch(text)
    return int(found[1]) if found else 1
