"""What is chosen of a prompt set for publishing, as its gallery shows it and downloads it again."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flux_pipeline.errors import ConfigError
from flux_pipeline.prompts import ByDay, PromptSet
from flux_pipeline.prompts.picks import picks_of


@dataclass(frozen=True, slots=True)
class Selection:
    """The file of picks and what it holds."""

    file: str = ""
    """As the prompt set names it, such as ``picks/products.csv``; empty: it chooses by none."""
    by_day: bool = False
    """Whether a pick also names the day."""
    picks: tuple[tuple[str, str, int, int, str, str], ...] = ()
    """Prompt, partition, take, output (both 1-based), SHA-256 of the pixels or nothing, note."""
    problem: str = ""
    """Why the file can't be read; then there are no picks, and nothing is to be downloaded."""
    version: str = ""
    """Hex digits that differ where picks do: by them a browser knows that the file has changed."""

    @classmethod
    def load(cls, found: Mapping[str, Any]) -> "Selection":
        """Read what a summary holds. Raises TypeError or ValueError for anything else."""
        picks = (
            (str(prompt), str(partition), int(take), int(output), str(digest), str(note))
            for prompt, partition, take, output, digest, note in found.get("picks", ())
        )
        return cls(**{**found, "picks": tuple(picks)})


NOTHING_CHOSEN = Selection()


def read_selection(prompt_set: PromptSet) -> Selection:
    """The selection of a prompt set; a file that is wrong is told, and stops no gallery."""
    by_day = isinstance(prompt_set.partitions, ByDay)
    path = prompt_set.choice.path
    if path is None:
        return Selection(by_day=by_day)
    file = path.relative_to(prompt_set.expansion.folder).as_posix()
    try:
        found = picks_of(prompt_set)
    except ConfigError as error:
        more = len(error.problems) - 1
        first = error.problems[0]
        line = f"line {first.line}: " if first.line else ""
        problem = f"{line}{first.message}{f' (and {more} more)' if more else ''}"
        return Selection(file, by_day, problem=problem)
    picks = tuple(
        (pick.prompt, pick.partition, pick.take, pick.output, pick.image_sha256, pick.note)
        for pick in found
    )
    version = hashlib.sha256(json.dumps(picks).encode()).hexdigest()[:12]
    return Selection(file, by_day, picks, version=version)
