"""Findings that a person has looked into: named in a file, they count no more.

A picture that was taken down on purpose, or a reply that was lost and paid for, stays a finding for
as long as the books are kept; a job that looks at the exit code has to be told once.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from flux_pipeline.audit.findings import Finding, Kind, Verification
from flux_pipeline.errors import ConfigError, Problem

Known = Mapping[tuple[Kind, str], int]
"""Kind and id of each, and its line in the file, 1-based."""

_LINE = re.compile(r"(?P<kind>\S+)\s+(?P<id>\S+?)(:\s.*|:)?")
_KINDS = ", ".join(Kind)
_ONLY_DEEP = frozenset({Kind.UNREADABLE, Kind.WRONG_HASH})


def read_known(path: Path) -> Known:
    """Read lines as ``verify`` prints them; what follows the id's colon is for people, as is ``#``.

    Raises:
        ConfigError: The file can't be read, or which lines are none of that form.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError([Problem(str(path), 0, "", f"can't be read: {why}")]) from error
    known: dict[tuple[Kind, str], int] = {}
    problems = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        found = _LINE.fullmatch(text)
        if found is None or found["kind"] not in set(Kind):
            message = f"not a finding as verify prints it: a kind ({_KINDS}), an id and a colon"
            problems.append(Problem(str(path), number, "", message))
        else:
            known[Kind(found["kind"]), found["id"]] = number
    if problems:
        raise ConfigError(problems)
    return known


def set_aside(result: Verification, known: Known, *, path: Path, deep: bool) -> None:
    """Move what is known out of the findings; note the lines that name nothing any more."""
    found, result.findings = result.findings, []
    for each in found:
        (result.known if _key(each) in known else result.findings).append(each)
    if not result.complete:
        return  # what was not looked for may still be there
    seen = {_key(each) for each in result.known}
    for (kind, id_), line in known.items():
        if (kind, id_) not in seen and (deep or kind not in _ONLY_DEEP):
            result.notes.append(f"{path}:{line}: {kind} {id_} is found no more: take the line out")


def _key(finding: Finding) -> tuple[Kind, str]:
    return finding.kind, finding.id
