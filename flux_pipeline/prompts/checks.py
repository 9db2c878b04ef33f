"""Expands a whole set without making requests, to find what only shows when it is expanded."""

import re
import unicodedata
from array import array
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from pydantic import ValidationError

from flux_pipeline.errors import Problems
from flux_pipeline.models import Model, ModelInput
from flux_pipeline.models.base import estimate_tokens
from flux_pipeline.prompts.document import Document
from flux_pipeline.prompts.entries import Entry, SeedRule, Variant
from flux_pipeline.prompts.messages import explain
from flux_pipeline.redaction import looks_secret

MAX_TWINS_HELD = 10_000
"""More than anybody reads; a table of nothing but pairs must not fill the memory."""

# Characters that turn or hide text. A joiner between emoji, or in scripts that need it, is fine:
# it is one behind a Latin letter or digit that nobody typed.
_INVISIBLE = re.compile(
    "[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
    "|(?<=[A-Za-z0-9])[\u200c\u200d]"
)


@dataclass(slots=True)
class ExpansionReport:
    """What a check found."""

    names: list[str] = field(default_factory=list)
    """The names of the prompts in order, up to the number asked for."""
    count: int = 0
    """Of the prompts, takes not counted."""
    problems: Problems = field(default_factory=Problems)
    warnings: Problems = field(default_factory=Problems)


@dataclass(frozen=True, slots=True)
class Expansion:
    """A set's entries with all that is needed to expand and check them."""

    document: Document
    model: Model
    entries: tuple[Entry, ...]

    def variants(
        self, problems: Problems, *, max_rows: int | None = None
    ) -> Iterator[tuple[Entry, Variant]]:
        """Every prompt of the set, in the order of the file, streamed."""
        for entry in self.entries:
            path = str(entry.table.path) if entry.table else self.document.path

            def report(line: int, message: str, path: str = path, entry: Entry = entry) -> None:
                problems.add(path, line, f"prompts.{entry.key}", message)

            for variant in entry.variants(report, max_rows=max_rows):
                yield entry, variant

    def checked_input(
        self, entry: Entry, variant: Variant, day: str, problems: Problems
    ) -> ModelInput | None:
        """The model's input of one variant; None where something is wrong with it."""
        inputs = entry.inputs(variant, day)
        try:
            return self.model.input_type.model_validate(inputs)
        except ValidationError as error:
            for keys, message in explain(error, self.model.input_type):
                self.add(problems, entry, variant, keys[0], message)
            return None

    def add_to_key(self, problems: Problems, entry: Entry, variant: Variant, message: str) -> None:
        """Put a problem where the prompt gets its name: the table's row, or the key in the file."""
        if variant.row is not None and entry.table is not None:
            path, line = str(entry.table.path), variant.row.line
        else:
            path, line = self.document.path, self.document.line("prompts", entry.key)
        problems.add(path, line, f"prompts.{entry.key}", message + variant.described())

    def add(
        self, problems: Problems, entry: Entry, variant: Variant, name: str, message: str
    ) -> None:
        """Put a problem where its author finds it: the table's row, or the key in the file."""
        inherited = name in entry.inherited
        keys = ("defaults", name) if inherited else ("prompts", entry.key, name)
        if variant.row is not None and entry.table is not None and name in entry.templates:
            path, line = str(entry.table.path), variant.row.line
        else:
            path, line = self.document.path, self.document.line(*keys)
        said = variant.described() if name in entry.templates else ""
        problems.add(path, line, ".".join(keys), message + said)


def check(
    expansion: Expansion,
    *,
    day: str = "",
    wants: Callable[[str], bool],
    max_rows: int | None = None,
    max_names: int = 0,
) -> ExpansionReport:
    """Check the inputs of all prompts, or of those that ``wants`` takes by name.

    Names are made, and must be unique, over the whole set. Of every table ``max_rows`` are looked
    at. Memory: 16 bytes a prompt, and some 40 more while they are sorted.
    """
    findings = ExpansionReport()
    names, inputs = Hashes(), Hashes()
    for entry, variant in expansion.variants(findings.problems, max_rows=max_rows):
        names.add(variant.name)
        findings.count += 1
        if len(findings.names) < max_names:
            findings.names.append(variant.name)
        if not wants(variant.name):
            continue
        values = expansion.checked_input(entry, variant, day, findings.problems)
        if values is None:
            continue
        inputs.add(identity(values))
        for name, message in find_warnings(expansion.model, values):
            expansion.add(findings.warnings, entry, variant, name, message)
        if entry.seed is SeedRule.GIVEN and entry.takes > 1:
            _check_last_seed(expansion, entry, variant, values, findings.problems)
    twins = DuplicateFinder(names.repeated(), inputs.repeated())
    if twins:
        _name_twins(expansion, twins, findings, day=day, wants=wants, max_rows=max_rows)
    return findings


class DuplicateFinder:
    """Second pass: remembers the first prompt of every name and input that comes again."""

    def __init__(self, names: frozenset[int], inputs: frozenset[int]) -> None:
        self._names = names
        self._inputs = inputs
        self._first_of_name: dict[str, str] = {}
        self._first_of_input: dict[Hashable, tuple[str, str]] = {}

    def __bool__(self) -> bool:
        return bool(self._names or self._inputs)

    def same_name(self, variant: Variant) -> str | None:
        """What to say of a prompt whose name another one has already."""
        if hash(variant.name) not in self._names:
            return None
        if variant.name not in self._first_of_name:
            if len(self._first_of_name) < MAX_TWINS_HELD:
                self._first_of_name[variant.name] = variant.described()
            return None
        first = self._first_of_name[variant.name]
        return f"an earlier prompt{first} is named {variant.name} too: change one of the keys"

    def same_input(self, variant: Variant, values: ModelInput, seed: SeedRule) -> str | None:
        """What to say of a prompt that asks for the same as another one."""
        cause = identity(values)
        if hash(cause) not in self._inputs:
            return None
        if cause not in self._first_of_input:
            if len(self._first_of_input) < MAX_TWINS_HELD:
                self._first_of_input[cause] = (variant.name, values.prompt)
            return None
        first, prompt = self._first_of_input[cause]
        if prompt != values.prompt:
            return f"differs from {first} only in how accents are encoded (NFC and NFD)"
        if seed is SeedRule.DERIVED:
            return f"is the same as {first}: each is made, with a seed of its own"
        return f"is the same request as {first}: made and paid once"


def _name_twins(
    expansion: Expansion,
    twins: DuplicateFinder,
    findings: ExpansionReport,
    *,
    day: str,
    wants: Callable[[str], bool],
    max_rows: int | None,
) -> None:
    for entry, variant in expansion.variants(Problems(), max_rows=max_rows):
        if message := twins.same_name(variant):
            expansion.add_to_key(findings.problems, entry, variant, message)
        if not wants(variant.name):
            continue
        values = expansion.checked_input(entry, variant, day, Problems())
        if values is not None and (message := twins.same_input(variant, values, entry.seed)):
            expansion.add(findings.warnings, entry, variant, "prompt", message)


def _check_last_seed(
    expansion: Expansion, entry: Entry, variant: Variant, values: ModelInput, problems: Problems
) -> None:
    last = {**values.sent(), "seed": (values.seed or 0) + entry.takes - 1}
    try:
        expansion.model.input_type.model_validate(last)
    except ValidationError as error:
        for _, message in explain(error, expansion.model.input_type):
            expansion.add(problems, entry, variant, "seed", f"in take {entry.takes}, {message}")


class Hashes:
    """The hashes of everything seen."""

    def __init__(self) -> None:
        self._hashes = array("q")

    def add(self, value: Hashable) -> None:
        """Take one value."""
        self._hashes.append(hash(value))

    def repeated(self) -> frozenset[int]:
        """The hashes that came more than once."""
        return frozenset(a for a, b in pairwise(sorted(self._hashes)) if a == b)


def identity(values: ModelInput) -> Hashable:
    """What two prompts share that look alike: every input, accents in one encoding."""
    if values.prompt.isascii():
        return tuple(values.__dict__.values())
    normal = unicodedata.normalize("NFC", values.prompt)
    return tuple({**values.__dict__, "prompt": normal}.values())


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
    if len(text) > model.prompt_tokens and (n := estimate_tokens(text)) > model.prompt_tokens:
        message = (
            f"has about {n} tokens (estimated without a tokenizer); the model reads "
            f"{model.prompt_tokens} and cuts off the rest"
        )
        yield "prompt", message
