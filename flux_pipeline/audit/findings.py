"""Findings of a verification: where provider, ledger, store and lineage table disagree.

Some findings never go away: an image that was taken down on purpose stays lost as long as the
ledger is kept. A file of acknowledged findings lets a job that looks at the exit code pass all the
same.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from flux_pipeline.errors import ConfigError, Problem

_LINE = re.compile(r"(?P<kind>\S+)\s+(?P<id>\S+?)(:\s.*|:)?")


class Kind(StrEnum):
    """The kind of a disagreement, and what the id of such a finding is."""

    LOST = "lost"
    """Recorded as stored and missing (the object's key), or paid, over and not stored (the id of
    the prediction, the request's fingerprint where it has none)."""
    ORPHANED = "orphaned"
    """An object without a lineage row, or without an entry in the ledger: its key."""
    PAID_TWICE = "paid_twice"
    """The id of the prediction that was one too many. Where that is only possible, because an
    earlier create has never been answered: the request's fingerprint, 64 hex digits."""
    UNREADABLE = "unreadable"
    """An object that can't be read or does not decode whole: its key, that of a lineage part too.
    For records that can't be read in the ledger: the request's fingerprint."""
    WRONG_HASH = "wrong_hash"
    """An object of other bytes or pixels than were recorded: its key."""
    HELD = "held"
    """A request that may have been paid and waits for a person: its fingerprint."""


_KINDS = ", ".join(Kind)
_ONLY_DEEP = frozenset({Kind.UNREADABLE, Kind.WRONG_HASH})
"""Kinds that are looked for in every object by a deep verification alone."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One disagreement."""

    kind: Kind
    id: str
    message: str
    """The disagreement and what to do about it, as a clause."""


@dataclass(slots=True)
class Verification:
    """The result of one verification."""

    images: int = 0
    """Objects below ``images/``."""
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Remarks that are no disagreement."""
    complete: bool = True
    """False where one of the four could not be asked: then nothing agrees for sure."""
    acknowledged: list[Finding] = field(default_factory=list)
    """Findings that a person has looked into: they don't count."""

    @property
    def ok(self) -> bool:
        """Whether all four agree, acknowledged findings aside."""
        return self.complete and not self.findings

    def ids(self, kind: Kind) -> list[str]:
        """The distinct ids of one kind, in the order in which they were found."""
        return list(dict.fromkeys(each.id for each in self.findings if each.kind is kind))


Acknowledged = Mapping[tuple[Kind, str], int]
"""Kind and id of each acknowledged finding, and its line in the file, 1-based."""


def read_acknowledged(path: Path) -> Acknowledged:
    """Read a file of findings, a line each as ``verify`` prints them.

    The text behind an id's colon is ignored, and so are lines that begin with ``#``.

    Raises:
        ConfigError: The file can't be read, or lines have another form; names each of them.
    """
    acknowledged: dict[tuple[Kind, str], int] = {}
    problems = []
    for number, line in enumerate(_read_lines(path), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        found = _LINE.fullmatch(text)
        if found is None or found["kind"] not in set(Kind):
            message = f"not a finding as verify prints it: a kind ({_KINDS}), an id and a colon"
            problems.append(Problem(str(path), number, "", message))
        else:
            acknowledged[Kind(found["kind"]), found["id"]] = number
    if problems:
        raise ConfigError(problems)
    return acknowledged


def set_aside(result: Verification, acknowledged: Acknowledged, *, path: Path, deep: bool) -> None:
    """Take acknowledged findings out of the findings; note lines of the file that match none."""
    found, result.findings = result.findings, []
    for each in found:
        (result.acknowledged if _key(each) in acknowledged else result.findings).append(each)
    if not result.complete:
        # A finding may be missing only because a side could not be asked: its line stays right.
        return
    seen = {_key(each) for each in result.acknowledged}
    for (kind, id_), line in acknowledged.items():
        if (kind, id_) not in seen and (deep or kind not in _ONLY_DEEP):
            result.notes.append(f"{path}:{line}: {kind} {id_} is found no more: take the line out")


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError([Problem(str(path), 0, "", f"can't be read: {why}")]) from error


def _key(finding: Finding) -> tuple[Kind, str]:
    return finding.kind, finding.id
