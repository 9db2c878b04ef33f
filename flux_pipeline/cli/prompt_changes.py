"""Names each new, edited and removed prompt of a plan, with its final text and parameters.

Compared with a git revision, they are what the files changed. Otherwise new and edited are the
prompts that a run would send requests for, edited where pictures of that name were made before, and
removed those of which there are pictures and that the set names no more.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, TypeAlias

import click
import rfc8785

from flux_pipeline.lineage.record import reproduction_partition
from flux_pipeline.models import effective_input
from flux_pipeline.produce.plan import Changes
from flux_pipeline.prompts import ByDay, PromptSet
from flux_pipeline.redaction import redact_input
from flux_pipeline.request import JsonValue, Request
from flux_pipeline.store.base import Store
from flux_pipeline.text import printable

Change: TypeAlias = Literal["new", "edited", "removed"]
_PROMPT, _SEED = "prompt", "seed"
_COLUMNS = ("prompt_name", "partition", "model", "input")


@dataclass(frozen=True, slots=True)
class PromptChange:
    """One prompt that a change touches, with the inputs of its requests."""

    change: Change
    name: str
    partition: str
    inputs: tuple[Mapping[str, JsonValue], ...]
    """Whole and redacted, one for each take; where it is removed, those that it had."""
    model: str = ""

    def as_json(self) -> dict[str, Any]:
        """As one object of JSON."""
        return {
            "change": self.change,
            "name": self.name,
            "partition": self.partition,
            "model": self.model,
            "inputs": [dict(each) for each in self.inputs],
        }

    def __str__(self) -> str:
        first = self.inputs[0] if self.inputs else {}
        text = printable(str(first.get(_PROMPT, "")))
        takes = f" ({len(self.inputs)} takes)" if len(self.inputs) > 1 else ""
        left = [
            f"{name} {_shown(value)}"
            for name, value in sorted(first.items())
            if name not in {_PROMPT, _SEED}
        ]
        seeds = [str(each[_SEED]) for each in self.inputs if _SEED in each]
        if seeds:
            left.append(f"seed {', '.join(seeds)}")
        return f"{self.change:<8}{self.name}{takes}: {text}\n        {printable('; '.join(left))}"


def changed_prompts(requests: Iterable[Request], changes: Changes) -> Iterator[PromptChange]:
    """Those of a set's requests whose prompts a change adds or edits."""
    kinds: dict[str, Change] = dict.fromkeys(changes.added, "new")
    kinds |= dict.fromkeys(changes.edited, "edited")
    yield from _grouped((each for each in requests if _name(each) in kinds), kinds)


def removed_prompts(requests: Iterable[Request], changes: Changes) -> Iterator[PromptChange]:
    """Those of an earlier set's requests whose prompts are there no more."""
    kinds: dict[str, Change] = dict.fromkeys(changes.removed, "removed")
    yield from _grouped((each for each in requests if _name(each) in kinds), kinds)


def unmade_prompts(
    store: Store,
    prompt_set: PromptSet,
    partitions: Sequence[str] | None,
    sent: Sequence[Request],
) -> Iterator[PromptChange]:
    """Compare what a run of the partitions would send with the pictures that were made before.

    Where partitions are named, a prompt counts as removed only if it was in one of them. Raises
    StoreError.
    """
    by_day = isinstance(prompt_set.partitions, ByDay)
    made = _made_prompts(store, prompt_set.name)
    known = {_place(name, key, by_day=by_day) for name, key in made}
    kinds: dict[str, Change] = {}
    for each in sent:
        source = each.source
        places = {
            _place(name, source.partition, by_day=by_day)
            for name in (source.prompt_name, source.stable_name)
        }
        kinds[source.prompt_name] = "new" if known.isdisjoint(places) else "edited"
    yield from _grouped(sent, kinds)
    names = prompt_set.all_names()
    for (name, key), change in sorted(made.items()):
        if name not in names and (partitions is None or key in partitions):
            yield change


def print_changes(prompt_set: str, changes: Sequence[PromptChange]) -> None:
    """Print the changes of one set, two lines a prompt."""
    click.echo(f"\n{prompt_set}:")
    for each in changes:
        click.echo(str(each))
    if not changes:
        click.echo("no prompt is new, edited or removed")


def _grouped(requests: Iterable[Request], kinds: Mapping[str, Change]) -> Iterator[PromptChange]:
    def place(request: Request) -> tuple[str, str]:
        return _name(request), request.source.partition

    for (name, partition), takes in groupby(requests, key=place):
        found = list(takes)
        inputs = tuple(redact_input(effective_input(each)) for each in found)
        yield PromptChange(kinds[name], name, partition, inputs, found[0].model)


def _made_prompts(store: Store, prompt_set: str) -> dict[tuple[str, str], PromptChange]:
    """The prompts of which there are pictures, by name and partition, each as it was made last."""
    from flux_pipeline.lineage.query import equals, open_snapshot

    conditions = [equals("prompt_set", prompt_set), equals("status", "stored")]
    found: dict[tuple[str, str], PromptChange] = {}
    for table in open_snapshot(store).find(conditions, _COLUMNS):
        for name, key, model, text in zip(
            *(table.column(column).to_pylist() for column in _COLUMNS), strict=True
        ):
            if (name, key) not in found and not key.startswith(reproduction_partition("")):
                change = PromptChange("removed", name, key, (json.loads(text),), model)
                found[name, key] = change
    return found


def _place(name: str, partition: str, *, by_day: bool) -> tuple[str, str]:
    """What tells one prompt from another: its name, and where a set is made by day also the day."""
    return name, partition if by_day else ""


def _name(request: Request) -> str:
    return request.source.prompt_name


def _shown(value: JsonValue) -> str:
    return value if isinstance(value, str) else rfc8785.dumps(value).decode()
