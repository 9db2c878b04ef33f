"""Decides which pictures of a prompt set are published, as its ``choose`` and its picks say.

``best`` goes by what was measured when a picture was stored, so that nothing is fetched: blank
pictures are left out, then one without a remark (rows that may be missing, another size than asked
for) is better than one with, a picture that no earlier prompt has already better than a second one
of it, and of what is left the sharpest, which is the file of the most bytes a pixel: at one
encoder's quality, blurred and empty parts cost few bytes. Takes of one prompt come from one model
and encoder, so their bytes can be compared. The trap: noise looks sharp too.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping, MutableSet, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from flux_pipeline.image_reader import Image
from flux_pipeline.lineage.record import ImageRecord
from flux_pipeline.prompts import ByDay, PromptSet
from flux_pipeline.prompts.picks import Pick, picks_of
from flux_pipeline.prompts.publication import Choice

_MOST_HINTS = 10
"""Names for which the nearest one is looked up, which takes a look at every name of the set."""
_BLANK = "blank:"
"""How the clause of a blank picture begins in its record; see ``images.inspection``."""


@dataclass(frozen=True, slots=True)
class ChosenPicture:
    """One chosen picture, by its place and its hash; about 300 bytes."""

    prompt_name: str
    partition: str
    take: int
    """1-based."""
    output: int
    """1-based."""
    image_sha256: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a set's choice comes to, for the pictures as they are now."""

    chosen: tuple[ChosenPicture, ...]
    """In the order of the file."""
    undecided: tuple[str, ...]
    """Prompts with pictures of which none is chosen; by day with the day before: ``day/name``."""
    stale: tuple[Pick, ...]
    """Picks of a picture that was made anew since: its hash is another now. It isn't published."""
    unknown: tuple[Pick, ...]
    """Picks that name nothing: no such prompt, or no such take or output of it."""
    waiting: tuple[Pick, ...] = ()
    """Picks of prompts that have no picture (yet)."""
    nearest: Mapping[str, str] = field(default_factory=dict)
    """As ``Unmet`` has it."""


@dataclass(frozen=True, slots=True)
class Unmet:
    """The picks for which there is no picture."""

    unknown: tuple[Pick, ...] = ()
    """They name nothing: no such prompt, or no such take or output of it."""
    waiting: tuple[Pick, ...] = ()
    """Their prompt has no picture (yet)."""
    nearest: Mapping[str, str] = field(default_factory=dict)
    """The set's nearest name for names that it hasn't: of the first few, where one is near."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is decided for the pictures of one prompt in one partition."""

    chosen: tuple[ImageRecord, ...] = ()
    is_undecided: bool = False
    """Whether nothing was chosen for it, so that ``undecided`` of the set decided."""
    stale: tuple[Pick, ...] = ()
    used: tuple[Pick, ...] = ()
    """The picks that name one of these pictures, those that are stale too."""


def resolve_choice(
    prompt_set: PromptSet, images: Iterable[Image], picks: Iterable[Pick] | None = None
) -> Chosen:
    """Decide for every prompt of ``images``, which come in the order of the file, lazily.

    They are ``reading.current_images``, of all partitions or of some. ``picks`` are those of the
    set's file where none are given. Memory: a prompt's records, and what is returned.

    Raises:
        ConfigError: The file of picks can't be read, or rows of it are wrong.
    """
    by_prompt = picks_by_prompt(picks_of(prompt_set) if picks is None else picks)
    decider = Decider(prompt_set, by_prompt)
    chosen: list[ChosenPicture] = []
    undecided: list[str] = []
    stale: list[Pick] = []
    used: set[Pick] = set()
    seen: set[tuple[str, str]] = set()
    for (partition, name), records in _by_prompt(images):
        decision = decider.decide(records)
        seen.add((partition, name))
        chosen += (_picture(partition, record) for record in decision.chosen)
        stale += decision.stale
        used.update(decision.used)
        if decision.is_undecided:
            is_day = isinstance(prompt_set.partitions, ByDay)
            undecided.append(f"{partition}/{name}" if is_day else name)
    unmet = [pick for found in by_prompt.values() for pick in found if pick not in used]
    found = split_unmet(prompt_set, unmet, seen)
    return Chosen(
        tuple(chosen),
        tuple(undecided),
        tuple(stale),
        found.unknown,
        found.waiting,
        found.nearest,
    )


def _by_prompt(
    images: Iterable[Image],
) -> Iterator[tuple[tuple[str, str], list[ImageRecord]]]:
    grouped = groupby(images, key=lambda each: (each.partition, each.record.prompt_name))
    return ((key, [each.record for each in found]) for key, found in grouped)


def _picture(partition: str, record: ImageRecord) -> ChosenPicture:
    place = (record.prompt_name, partition, record.take, record.output_index + 1)
    return ChosenPicture(*place, record.image_sha256 or "")


def split_unmet(prompt_set: PromptSet, picks: Sequence[Pick], seen: set[tuple[str, str]]) -> Unmet:
    """Tell the picks that name nothing from those whose prompt has no picture.

    ``picks`` are those that named no picture, ``seen`` the places (partition and prompt) that have
    pictures.
    """
    names = {name for _, name in seen}

    def has_pictures(pick: Pick) -> bool:
        return (pick.partition, pick.prompt) in seen if pick.partition else pick.prompt in names

    others = {pick.prompt for pick in picks if not has_pictures(pick)}
    # One pass over the tables, and only where a pick was not met.
    known = others.intersection(prompt_set.names_in(None)) if others else set[str]()
    waiting = tuple(pick for pick in picks if not has_pictures(pick) and pick.prompt in known)
    unknown = tuple(pick for pick in picks if pick not in waiting)
    strangers = sorted({pick.prompt for pick in unknown} & others - known)[:_MOST_HINTS]
    return Unmet(unknown, waiting, find_nearest(strangers, prompt_set.names_in(None)))


def find_nearest(names: Sequence[str], known: Iterable[str]) -> Mapping[str, str]:
    """Of all known names the one that each of these is nearest to; left out where none is near."""
    if not names:
        return {}
    candidates = list(dict.fromkeys(known))
    near = {name: difflib.get_close_matches(name, candidates, n=1) for name in names}
    return {name: found[0] for name, found in near.items() if found}


def picks_by_prompt(picks: Iterable[Pick]) -> dict[str, list[Pick]]:
    """The picks of each prompt, in the order of the file."""
    found: dict[str, list[Pick]] = {}
    for pick in picks:
        found.setdefault(pick.prompt, []).append(pick)
    return found


@dataclass(slots=True)
class Decider:
    """Decides prompt after prompt, in the order of the file; memory: 8 bytes a chosen picture."""

    prompt_set: PromptSet
    picks: Mapping[str, Sequence[Pick]] = field(default_factory=dict)
    """By prompt name."""
    _best: MutableSet[int] = field(default_factory=set)
    """The pictures that were chosen as the best of earlier prompts."""

    def decide(self, records: Sequence[ImageRecord]) -> Decision:
        """Decide for the stored pictures of one prompt in one partition."""
        choice = self.prompt_set.choice
        ordered = sorted(records, key=lambda each: (each.take, each.output_index))
        if choice.kind == "all" or not ordered:
            return Decision(tuple(ordered))
        if choice.kind == "first":
            return Decision((ordered[0],))
        if choice.kind == "best":
            return self._best_of(choice, ordered)
        return self._picked(choice, ordered)

    def _best_of(self, choice: Choice, ordered: Sequence[ImageRecord]) -> Decision:
        usable = [record for record in ordered if not is_blank(record)]
        if not usable:
            return _undecided(choice, ordered)
        best = min(usable, key=self._flaws)  # of equals the first
        self._best.add(_short(best))
        return Decision((best,))

    def _flaws(self, record: ImageRecord) -> tuple[bool, bool, float]:
        """The smaller the better."""
        return bool(record.error), _short(record) in self._best, -bytes_per_pixel(record)

    def _picked(self, choice: Choice, ordered: Sequence[ImageRecord]) -> Decision:
        by_place = {(record.take, record.output_index): record for record in ordered}
        chosen: dict[tuple[int, int], ImageRecord] = {}
        stale, used = [], []
        for pick in self._picks_of(ordered[0]):
            place = (pick.take, pick.output_index)
            record = by_place.get(place)
            if record is None:
                continue
            used.append(pick)
            if self._is_stale(pick, record):
                stale.append(pick)
            else:
                chosen[place] = record
        if not used:
            return _undecided(choice, ordered)
        found = tuple(chosen[place] for place in sorted(chosen))
        return Decision(found, stale=tuple(stale), used=tuple(used))

    def _picks_of(self, record: ImageRecord) -> Sequence[Pick]:
        """The picks for a prompt; by day those of that very day before those of every day."""
        picks = self.picks.get(record.prompt_name, ())
        of_day = [pick for pick in picks if pick.partition and pick.partition == record.partition]
        return of_day or [pick for pick in picks if not pick.partition]

    def _is_stale(self, pick: Pick, record: ImageRecord) -> bool:
        """Whether the picture was made anew; a pick for every day was made of one day's picture."""
        is_every_day = isinstance(self.prompt_set.partitions, ByDay) and not pick.partition
        return not is_every_day and pick.image_sha256 not in {"", record.image_sha256}


def _undecided(choice: Choice, ordered: Sequence[ImageRecord]) -> Decision:
    taken = (ordered[0],) if choice.undecided == "first" else ()
    return Decision(taken, is_undecided=True)


def is_blank(record: ImageRecord) -> bool:
    """Whether a picture was all of one colour when it was stored."""
    return _BLANK in (record.error or "")


def bytes_per_pixel(record: ImageRecord) -> float:
    """The stand-in for sharpness; 0 where bytes or size are not known."""
    pixels = (record.width or 0) * (record.height or 0)
    return (record.bytes or 0) / pixels if pixels else 0.0


def _short(record: ImageRecord) -> int:
    return int((record.image_sha256 or "0")[:16], 16)
