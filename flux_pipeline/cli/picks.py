"""What a prompt set's file of picks comes to, as `flux-pipeline plan` says it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flux_pipeline.ledger.base import Ledger
from flux_pipeline.prompts import PromptSet
from flux_pipeline.prompts.picks import Pick
from flux_pipeline.settings import Settings
from flux_pipeline.text import count_noun, first_of

if TYPE_CHECKING:
    from flux_pipeline.publish.choice import Chosen

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class ChoicePlan:
    """What is chosen of one prompt set's pictures as they are now."""

    kind: str
    """``all``, ``first``, ``best`` or ``file``."""
    file: str = ""
    """The file of picks, where ``kind`` is ``file``; nothing else is looked at without one."""
    undecided_is: str = "hold"
    found: "Chosen | None" = None

    def as_json(self) -> dict[str, Any]:
        """The kind; with a file of picks also what it comes to, each pick by its row and place."""
        if self.found is None:
            return {"kind": self.kind}
        return {
            "kind": self.kind,
            "file": self.file,
            "chosen": len(self.found.chosen),
            "undecided": list(self.found.undecided),
            "stale": [*map(_pick_json, _by_row(self.found.stale))],
            "unknown": [
                _pick_json(pick) | _nearest_json(pick, self.found.nearest)
                for pick in _by_row(self.found.unknown)
            ],
            "waiting": [*map(_pick_json, _by_row(self.found.waiting))],
        }

    def lines(self) -> Iterator[str]:
        """What a person has to know or to do; nothing where all is decided."""
        if self.found is None:
            return
        if self.found.undecided:
            prompts = count_noun(len(self.found.undecided), "prompt")
            what = "is held" if len(self.found.undecided) == 1 else "are held"
            fate = what if self.undecided_is == "hold" else "take the first picture"
            named = first_of(self.found.undecided, _MOST_NAMED)
            yield f"{prompts} without a pick, which {fate}: {named}"
        for picks, of_one, of_many in (
            (
                self.found.stale,
                "whose picture was made anew since",
                "whose pictures were made anew since",
            ),
            (self.found.unknown, "names nothing", "name nothing"),
            (self.found.waiting, "waits for its picture", "wait for their pictures"),
        ):
            if picks:
                says = of_one if len(picks) == 1 else of_many
                near = self.found.nearest if picks is self.found.unknown else {}
                named = first_of([_named(pick, near) for pick in _by_row(picks)], _MOST_NAMED)
                yield f"{count_noun(len(picks), 'pick')} {says}: {named}"


def plan_choice(
    prompt_set: PromptSet, partitions: Sequence[str] | None, ledger: Ledger, settings: Settings
) -> ChoicePlan:
    """What is chosen of these partitions; None: of all that have begun.

    Raises:
        ConfigError: The file of picks is wrong: every row with its line.
        LedgerError: The ledger can't be read.
    """
    choice = prompt_set.choice
    if choice.path is None:
        return ChoicePlan(choice.kind)
    from flux_pipeline.image_reader import Current, Image, begun_partitions
    from flux_pipeline.publish.choice import resolve_choice
    from flux_pipeline.store.open import open_store

    store = open_store(settings.store, settings.store_options)
    source = Current(prompt_set, lambda: nullcontext(ledger))
    keys = begun_partitions(prompt_set) if partitions is None else partitions
    images = (Image(record, partition, store) for partition, record in source.records(keys))
    found = resolve_choice(prompt_set, images)
    return ChoicePlan(choice.kind, str(choice.path), choice.undecided, found)


def _by_row(picks: Iterable[Pick]) -> list[Pick]:
    return sorted(picks, key=lambda pick: pick.row)


def _pick_json(pick: Pick) -> dict[str, Any]:
    place = {"row": pick.row, "prompt": pick.prompt, "take": pick.take, "output": pick.output}
    return place | ({"partition": pick.partition} if pick.partition else {})


def _nearest_json(pick: Pick, nearest: Mapping[str, str]) -> dict[str, Any]:
    near = nearest.get(pick.prompt)
    return {} if near is None else {"nearest": near}


def _named(pick: Pick, nearest: Mapping[str, str]) -> str:
    """``tie take 1 (row 3: did you mean tied?)``."""
    parts = [pick.partition, pick.prompt, f"take {pick.take}"]
    parts += [f"image {pick.output}"] if pick.output > 1 else []
    near = nearest.get(pick.prompt)
    hint = "" if near is None else f": did you mean {near}?"
    return f"{' '.join(filter(None, parts))} (row {pick.row}{hint})"
