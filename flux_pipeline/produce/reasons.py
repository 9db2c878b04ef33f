"""Counts the reasons why images are missing: those that differ only by an id or a number are one.

What stopped the run comes first, and what is paid and not stored yet is one entry with the reasons
below it, because one command or the next run ends all of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from flux_pipeline.produce.brake import kind_of
from flux_pipeline.produce.report import LeftOpen, Result, time_left


@dataclass(slots=True)
class Reason:
    """Reasons of one kind."""

    example: str
    """The first of them, whole."""
    images: int = 0


@dataclass(slots=True)
class Reasons:
    """Counts images by the kind of reason for which they are missing."""

    _stops: dict[str, Reason] = field(default_factory=dict)
    _others: dict[str, Reason] = field(default_factory=dict)
    _open: dict[str, Reason] = field(default_factory=dict)
    _seconds_left: float = 0.0
    """Of the open outputs that vanish first."""

    def __bool__(self) -> bool:
        return bool(self._stops or self._others or self._open)

    def add(self, result: Result) -> None:
        """Count the reason of one result, if it has one."""
        if result.left_open is not None:
            self._add_open(result.left_open, result.request.outputs)
        elif result.reason:
            group = self._others if result.stop is None else self._stops
            kind = f"{result.stop}: {kind_of(result.reason)}"
            _count(group, kind, result.reason, result.request.outputs)

    def add_text(self, reason: str, images: int) -> None:
        """Count a reason that no result has."""
        _count(self._others, kind_of(reason), reason, images)

    def lines(self, most: int) -> Iterator[str]:
        """``12 x reason`` for each kind, at most ``most`` of them and then how many more."""
        counted = list(self.counts().items())
        yield from (f"{images} x {reason}" for reason, images in counted[:most])
        if len(counted) > most:
            yield f"and {len(counted) - most} more reasons: see the lineage table"

    def counts(self) -> dict[str, int]:
        """Images by reason, one reason of each kind: what stopped the run, what is open, others."""
        counted: dict[str, int] = {}
        for reason in (*self._stops.values(), *self._of_open(), *self._others.values()):
            counted[reason.example] = counted.get(reason.example, 0) + reason.images
        return counted

    def _add_open(self, left: LeftOpen, images: int) -> None:
        self._seconds_left = min(left.seconds, self._seconds_left) if self._open else left.seconds
        _count(self._open, kind_of(left.why), f"prediction {left.prediction}: {left.why}", images)

    def _of_open(self) -> Iterator[Reason]:
        if not self._open:
            return
        images = sum(each.images for each in self._open.values())
        whys = [each.example for each in self._open.values()]
        if len(whys) > 1:
            whys = [f"{each.images} x {each.example}" for each in self._open.values()]
        such_as = "such as " if len(whys) == 1 and images > 1 else ""
        yield Reason(
            f"paid, not stored yet, {time_left(self._seconds_left)}; the next run or"
            f" `flux-pipeline rescue` fetches it: {such_as}{'; '.join(whys)}",
            images,
        )


def _count(group: dict[str, Reason], kind: str, example: str, images: int) -> None:
    group.setdefault(kind, Reason(example)).images += images
