"""Checks a whole set by expanding it: inputs, names, duplicates, and warnings for each prompt."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress
from operator import not_
from typing import Protocol

from flux_pipeline.errors import Problems
from flux_pipeline.models import Model
from flux_pipeline.models.base import MAX_PROMPT_CHARACTERS, estimate_tokens
from flux_pipeline.prompts.chain import Sources
from flux_pipeline.prompts.duplicates import DuplicateFinder, Hashes
from flux_pipeline.prompts.expansion import AreWanted, Entry, Expansion, SeedRule, Variant
from flux_pipeline.prompts.inputs import CheckedInput, InputChecker
from flux_pipeline.prompts.skipped_rows import SkippedRows
from flux_pipeline.prompts.validation import validate_input
from flux_pipeline.redaction import looks_secret

# Characters that turn or hide text. A joiner between emoji, or in scripts that need it, is fine:
# it is refused after a Latin letter or digit, where nobody types one.
_INVISIBLE = re.compile(
    "[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
    "|(?<=[A-Za-z0-9])[\u200c\u200d]"
)
_TOGETHER = 500
"""Prompts that are looked at together."""


class Selected(Protocol):
    """Which prompts are in the partitions asked for, by their names."""

    def __call__(self, name: str, stable: str) -> bool:
        """Whether one prompt is; it has its stable name, or none."""
        ...

    def many(self, names: Sequence[str], stable: Sequence[str]) -> Sequence[bool]:
        """For each of some prompts whether it is; each has its stable name, or its name again."""
        ...


@dataclass(slots=True)
class ExpansionReport:
    """The names, problems and warnings that expanding a set brought to light."""

    names: list[str] = field(default_factory=list)
    """The names of the prompts in order, up to the number asked for."""
    count: int = 0
    """Of the prompts, takes not counted."""
    outputs: int = 1
    """The most images that one request asks for."""
    problems: Problems = field(default_factory=Problems)
    warnings: Problems = field(default_factory=Problems)


def check(
    expansion: Expansion,
    *,
    day: str = "",
    is_selected: Selected | None = None,
    sources: Sources | None = None,
    max_rows: int | None = None,
    max_names: int = 0,
) -> ExpansionReport:
    """Check a whole set, or its first ``max_rows`` rows of each table; see ``Check``."""
    run = Check(expansion, day, is_selected, sources, max_rows, max_names)
    for _ in run.prompts():
        pass
    return run.report


@dataclass(slots=True)
class Check:
    """Checks the inputs of the prompts that ``is_selected`` accepts, and the names of all.

    Names must be unique over the whole set. Memory: 16 bytes a prompt, and some 40 more while they
    are sorted. For one pass.
    """

    expansion: Expansion
    day: str = ""
    is_selected: Selected | None = None
    sources: Sources | None = None
    max_rows: int | None = None
    """Rows of each table that are read."""
    max_names: int = 0
    report: ExpansionReport = field(default_factory=ExpansionReport)
    """Whole once the last prompt has come."""
    _names: Hashes = field(default_factory=Hashes)
    _inputs: Hashes = field(default_factory=Hashes)
    _skipped: SkippedRows = field(default_factory=SkippedRows)
    _usable: set[str] = field(default_factory=set)
    """The keys of entries that have a prompt."""

    def prompts(self) -> Iterator[tuple[Entry, Variant, CheckedInput]]:
        """Each of those prompts whose input can be used, as it is checked.

        What is wrong with the set as a whole is known only at the end.
        """
        report = self.report
        inputs = InputChecker(self.expansion, report.problems, self.day, self._skipped)
        names: list[str] = []
        seen: list[tuple[Entry, Variant, CheckedInput]] = []
        for entry, variant in self._variants():
            is_asked = self._is_asked(variant)
            checked = None
            if is_asked:
                checked = inputs.check(entry, variant)
                if checked is None and entry.skips_bad_rows:
                    continue  # it is no prompt of the set: no partition is named after it
            self._usable.add(entry.key)
            names.append(variant.name)
            if checked is not None:
                seen.append((entry, variant, checked))
                if entry.takes > 1 and entry.seed is SeedRule.GIVEN and checked.seed is not None:
                    self._check_last_seed(entry, variant, checked)
                yield entry, variant, checked
            if len(names) == _TOGETHER:
                self._count(names)
                self._look_at(seen)
                names, seen = [], []
        self._count(names)
        self._look_at(seen)
        report.count = len(self._names)
        if finder := DuplicateFinder(self._names, self._inputs):
            self._add_duplicates(finder)
        if not report.problems:
            self._refuse_tables_without_good_rows()
        report.warnings.add_all(self._skipped.warnings().as_tuple())

    def _variants(self) -> Iterator[tuple[Entry, Variant]]:
        # A few rows, or names that are remembered, are looked at one by one.
        is_whole = self.max_rows is not None or self.max_names > 0
        is_selected = None if is_whole else self.is_selected
        return self.expansion.variants(
            self.report.problems,
            skipped=self._skipped,
            sources=self.sources,
            max_rows=self.max_rows,
            are_wanted=None if is_selected is None else self._counting(is_selected),
        )

    def _counting(self, is_selected: Selected) -> AreWanted:
        """Counts prompts that are not selected by their names; their rows are not looked at."""

        def are_wanted(entry: Entry, names: Sequence[str], stable: Sequence[str]) -> Sequence[bool]:
            wanted = is_selected.many(names, stable)
            if not all(wanted):
                self._usable.add(entry.key)
                self._names.add_all(compress(names, map(not_, wanted)))
            return wanted

        return are_wanted

    def _is_asked(self, variant: Variant) -> bool:
        return self.is_selected is None or self.is_selected(variant.name, variant.stable_name)

    def _count(self, names: Sequence[str]) -> None:
        self._names.add_all(names)
        self.report.names.extend(names[: max(self.max_names - len(self.report.names), 0)])

    def _look_at(self, seen: Sequence[tuple[Entry, Variant, CheckedInput]]) -> None:
        """Note what some prompts ask for, and what they are warned of."""
        report = self.report
        forms = {id(checked.form): checked.form for _, _, checked in seen}
        report.outputs = max([report.outputs, *(form.outputs for form in forms.values())])
        self._inputs.add_all([checked.comparable() for _, _, checked in seen])
        models = [form.model for form in forms.values()]
        texts = [checked.prompt for _, _, checked in seen]
        if not any(form.warnings for form in forms.values()) and not may_warn(models, texts):
            return
        for entry, variant, checked in seen:
            for name, message in checked.form.warnings:
                self.expansion.add_to_input(report.warnings, entry, variant, name, message)
            for message in find_warnings(variant.model, checked.prompt):
                self.expansion.add_to_input(report.warnings, entry, variant, "prompt", message)

    def _check_last_seed(self, entry: Entry, variant: Variant, checked: CheckedInput) -> None:
        def add(_keys: tuple[str, ...], message: str) -> None:
            message = f"in take {entry.takes}, {message}"
            self.expansion.add_to_input(self.report.problems, entry, variant, name, message)

        name = variant.model.seed_input
        last = (checked.seed or 0) + entry.takes - 1
        validate_input(
            variant.model, {**checked.form.values.sent(), **checked.free, name: last}, add
        )

    def _add_duplicates(self, finder: DuplicateFinder) -> None:
        # What is wrong with a row was reported by the first pass.
        expansion, report, ignored = self.expansion, self.report, Problems()
        inputs = InputChecker(expansion, ignored, self.day)
        for entry, variant in expansion.variants(
            ignored, sources=self.sources, max_rows=self.max_rows
        ):
            is_asked = self._is_asked(variant)
            checked = None
            if is_asked:
                checked = inputs.check(entry, variant)
                if checked is None and entry.skips_bad_rows:
                    continue
            if message := finder.find_same_name(variant):
                expansion.add_to_name(report.problems, entry, variant, message)
            if checked is None:
                continue
            if message := finder.find_same_input(variant, checked, entry.seed):
                expansion.add_to_input(report.warnings, entry, variant, "prompt", message)

    def _refuse_tables_without_good_rows(self) -> None:
        for entry in self.expansion.entries:
            path, key = self.expansion.path_of(entry), f"prompts.{entry.key}"
            if entry.key not in self._usable and self._skipped.has_bad(path, key):
                message = "no row can be used: bad_rows: skip would leave nothing"
                self.report.problems.add(path, 0, key, message)
                self.report.problems.add_all(self._skipped.warnings().as_tuple())


def may_warn(models: Iterable[Model], texts: Sequence[str]) -> bool:
    """Whether ``find_warnings`` may have something to say of one of many prompts of these models.

    They are looked at together, at a tenth of the cost.
    """
    shortest = min((model.prompt_tokens or MAX_PROMPT_CHARACTERS for model in models), default=0)
    together = "\n".join(texts)
    return (
        max(map(len, texts), default=0) > shortest
        or looks_secret(together)
        or not (together.isascii() or _INVISIBLE.search(together) is None)
    )


def find_warnings(model: Model, text: str) -> Iterator[str]:
    """Warnings about the text of one prompt; none holds that text."""
    found = None if text.isascii() else _INVISIBLE.search(text)
    if found is not None:
        code = f"U+{ord(found[0]):04X} {unicodedata.name(found[0], '')}".strip()
        yield f"holds an invisible character at character {found.start() + 1}: {code}"
    if looks_secret(text):
        yield "seems to hold a key or token; it would be sent and stored with the image"
    # A token has one character at least, so that short texts need no count.
    limit = model.prompt_tokens
    if limit and len(text) > limit and (n := estimate_tokens(text)) > limit:
        yield (
            f"has about {n} tokens (estimated without a tokenizer); the model reads "
            f"{limit} and cuts off the rest"
        )
