"""What a verification finds: where provider, ledger, store and lineage table disagree."""

from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What is wrong, and what the id of such a finding is."""

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


@dataclass(frozen=True, slots=True)
class Finding:
    """One disagreement."""

    kind: Kind
    id: str
    what: str
    """What is wrong and what to do, as a clause."""


@dataclass(slots=True)
class Verification:
    """What was found."""

    images: int = 0
    """Objects below ``images/``."""
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What is no disagreement, and should be known."""
    complete: bool = True
    """False where one of the four could not be asked: then nothing agrees for sure."""
    known: list[Finding] = field(default_factory=list)
    """Those that a person has looked into: they don't count."""

    @property
    def ok(self) -> bool:
        """Whether all four agree, but for what is known."""
        return self.complete and not self.findings

    def ids(self, kind: Kind) -> list[str]:
        """The distinct ids of one kind, in the order in which they were found."""
        return list(dict.fromkeys(each.id for each in self.findings if each.kind is kind))
