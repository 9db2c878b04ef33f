"""Checks a whole set by expanding it: inputs, names, duplicates, and warnings for each prompt."""

import re
import unicodedata
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field

from flux_pipeline.errors import Problems
from flux_pipeline.models import Model, ModelInput
from flux_pipeline.models.base import estimate_tokens
from flux_pipeline.prompts.chain import Sources
from flux_pipeline.prompts.duplicates import DuplicateFinder, Hashes, comparable_input
from flux_pipeline.prompts.expansion import Entry, Expansion, SeedRule, Variant
from flux_pipeline.prompts.skipped_rows import SkippedRows
from flux_pipeline.prompts.validation import validate_input
from flux_pipeline.redaction import looks_secret

# Characters that turn or hide text. A joiner between emoji, or in scripts that need it, is fine:
# it is refused after a Latin letter or digit, where nobody types one.
_INVISIBLE = re.compile(
    "[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
    "|(?<=[A-Za-z0-9])[\u200c\u200d]"
)


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


def ignore_prompt(_prompt: tuple[Entry, Variant]) -> None:
    """Drop a prompt."""


def check(
    expansion: Expansion,
    *,
    day: str = "",
    is_selected: Callable[[Variant], bool],
    sources: Sources | None = None,
    max_rows: int | None = None,
    max_names: int = 0,
    on_prompt: Callable[[tuple[Entry, Variant]], None] = ignore_prompt,
) -> ExpansionReport:
    """Check the inputs of the prompts that ``is_selected`` accepts, and all names.

    Names must be unique over the whole set. Of every table ``max_rows`` are read. ``on_prompt`` is
    given each prompt whose input can be used. Memory: 16 bytes a prompt, and some 40 more while
    they are sorted.
    """
    report = ExpansionReport()
    names, inputs, skipped = Hashes(), Hashes(), SkippedRows()
    usable: set[str] = set()
    rows = expansion.variants(report.problems, skipped=skipped, sources=sources, max_rows=max_rows)
    for entry, variant in rows:
        is_asked = is_selected(variant)
        checked = None
        if is_asked:
            checked = expansion.checked_input(entry, variant, day, report.problems, skipped)
        if is_asked and checked is None and entry.skips_bad_rows:
            continue  # it is no prompt of the set: no partition is named after it
        usable.add(entry.key)
        names.add(variant.name)
        report.count += 1
        if len(report.names) < max_names:
            report.names.append(variant.name)
        if checked is None:
            continue
        on_prompt((entry, variant))
        values = checked.values
        report.outputs = max(report.outputs, values.outputs)
        inputs.add(comparable_input(variant.model, values))
        for name, message in find_warnings(variant.model, values):
            expansion.add_to_input(report.warnings, entry, variant, name, message)
        if entry.seed is SeedRule.GIVEN and values.seed is not None and entry.takes > 1:
            _check_last_seed(expansion, entry, variant, values, report.problems)
    if finder := DuplicateFinder(names, inputs):
        _add_duplicates(
            expansion,
            finder,
            report,
            day=day,
            is_selected=is_selected,
            sources=sources,
            max_rows=max_rows,
        )
    if not report.problems:
        _refuse_tables_without_good_rows(expansion, skipped, usable, report.problems)
    report.warnings.add_all(skipped.warnings().as_tuple())
    return report


def _refuse_tables_without_good_rows(
    expansion: Expansion, skipped: SkippedRows, usable: Container[str], problems: Problems
) -> None:
    for entry in expansion.entries:
        path, key = expansion.path_of(entry), f"prompts.{entry.key}"
        if entry.key not in usable and skipped.has_bad(path, key):
            problems.add(path, 0, key, "no row can be used: bad_rows: skip would leave nothing")
            problems.add_all(skipped.warnings().as_tuple())


def _check_last_seed(
    expansion: Expansion, entry: Entry, variant: Variant, values: ModelInput, problems: Problems
) -> None:
    def add(_keys: tuple[str, ...], message: str) -> None:
        message = f"in take {entry.takes}, {message}"
        expansion.add_to_input(problems, entry, variant, variant.model.seed_input, message)

    last = {**values.sent(), variant.model.seed_input: (values.seed or 0) + entry.takes - 1}
    validate_input(variant.model, last, add)


def _add_duplicates(
    expansion: Expansion,
    finder: DuplicateFinder,
    report: ExpansionReport,
    *,
    day: str,
    is_selected: Callable[[Variant], bool],
    sources: Sources | None,
    max_rows: int | None,
) -> None:
    # What is wrong with a row was reported by the first pass.
    ignored = Problems()
    for entry, variant in expansion.variants(ignored, sources=sources, max_rows=max_rows):
        is_asked = is_selected(variant)
        checked = expansion.checked_input(entry, variant, day, ignored) if is_asked else None
        if is_asked and checked is None and entry.skips_bad_rows:
            continue
        if message := finder.find_same_name(variant):
            expansion.add_to_name(report.problems, entry, variant, message)
        if checked is None:
            continue
        if message := finder.find_same_input(variant, checked.values, entry.seed):
            expansion.add_to_input(report.warnings, entry, variant, "prompt", message)


def find_warnings(model: Model, values: ModelInput) -> Iterator[tuple[str, str]]:
    """Pairs of input and warning for one prompt; no warning holds the prompt's text."""
    yield from values.warnings()
    text = values.prompt
    found = None if text.isascii() else _INVISIBLE.search(text)
    if found is not None:
        code = f"U+{ord(found[0]):04X} {unicodedata.name(found[0], '')}".strip()
        yield "prompt", f"holds an invisible character at character {found.start() + 1}: {code}"
    if looks_secret(text):
        yield "prompt", "seems to hold a key or token; it would be sent and stored with the image"
    # A token has one character at least, so that short texts need no count.
    limit = model.prompt_tokens
    if limit and len(text) > limit and (n := estimate_tokens(text)) > limit:
        message = (
            f"has about {n} tokens (estimated without a tokenizer); the model reads "
            f"{limit} and cuts off the rest"
        )
        yield "prompt", message
