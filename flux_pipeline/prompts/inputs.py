"""Checks the inputs of prompts; what differs in prompt and seed alone is checked once.

A table's rows mostly differ in the text of their prompt. So their other inputs are validated, and
their pictures read, with the first of them, and of the others only the prompt and the seed.
"""

import json
import unicodedata
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import ValidationError

from flux_pipeline.errors import Problems
from flux_pipeline.models import Model, ModelInput, RequestForm
from flux_pipeline.models.signed_url import comparable_url
from flux_pipeline.prompts.chain import is_planned
from flux_pipeline.prompts.expansion import Entry, Expansion, RowNotes, Variant
from flux_pipeline.prompts.picture_files import read_picture
from flux_pipeline.prompts.skipped_rows import SkippedRows
from flux_pipeline.prompts.tables import Row
from flux_pipeline.prompts.validation import OnProblem, validate_input
from flux_pipeline.request import InputPicture
from flux_pipeline.text import quoted

_ENCODER = json.JSONEncoder(sort_keys=True)
_MOST_FORMS = 1_000
"""Forms that are kept, some 4 KB each; a table with a picture of its own in each row has a form a
row, and none of them comes again."""


class CheckedInput(NamedTuple):
    """The input of one prompt, checked."""

    form: "InputForm"
    free: Mapping[str, Any]
    """Those of the model's ``free_inputs`` that are given: its prompt and its seed."""
    prompt: str
    """What the image shows; empty for a model without prompts."""

    @property
    def seed(self) -> int | None:
        """The seed of the file or of the row; None where none is given."""
        seed = self.free.get(self.form.model.seed_input)
        return seed if isinstance(seed, int) else None

    def comparable(self) -> Hashable:
        """Equal where two prompts look alike: accents count in one encoding, signatures not."""
        free = {**self.form.unset, **self.free}
        if not self.prompt.isascii() and "prompt" in free:
            free["prompt"] = unicodedata.normalize("NFC", self.prompt)
        return self.form.comparable, *free.values()


@dataclass(slots=True)
class InputForm:
    """Checked inputs, whatever their prompt and seed are: what many prompts have in common."""

    model: Model
    values: ModelInput
    """Those of the first prompt."""
    pictures: tuple[InputPicture, ...]
    unset: Mapping[str, Any] = field(init=False)
    """What the free inputs are where they are not given, in one order."""
    outputs: int = field(init=False)
    """Images that each request asks for."""
    warnings: tuple[tuple[str, str], ...] = field(init=False)
    """Pairs of input and message; none is about a prompt's text."""
    _comparable: str = ""
    _requests: dict[tuple[str | None, bool], RequestForm] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values = self.values.values()
        self.unset = {name: values.get(name) for name in sorted(self.model.free_inputs)}
        self.outputs = self.values.outputs
        self.warnings = tuple(self.values.warnings())

    @property
    def comparable(self) -> str:
        """The other inputs: equal where two prompts look alike."""
        if not self._comparable:
            values = self.values.values().items()
            others = {name: value for name, value in values if name not in self.unset}
            self._comparable = _comparable(self.model, others)
        return self._comparable

    def requests(self, version: str | None, *, is_seeded: bool) -> RequestForm:
        """The form of their requests, each with a seed or without; see ``RequestForm``."""
        found = self._requests.get((version, is_seeded))
        if found is None:
            values = self.values.with_seed(0) if is_seeded else self.values
            found = RequestForm(self.model, values, version=version, pictures=self.pictures)
            self._requests[version, is_seeded] = found
        return found


@dataclass(slots=True)
class InputChecker:
    """Checks the inputs of one pass over a set's prompts, and reports what is wrong with them."""

    expansion: Expansion
    problems: Problems
    day: str = ""
    """YYYY-MM-DD where partitions are days, else empty."""
    skipped: SkippedRows = field(default_factory=SkippedRows)
    """Gets what is wrong with rows that are skipped by choice."""
    _forms: dict[Hashable, InputForm] = field(default_factory=dict)
    _shared: "_Shared | None" = None

    def check(self, entry: Entry, variant: Variant) -> CheckedInput | None:
        """The model's input of one variant; None after adding what is wrong with it."""
        row, model = variant.row, variant.model
        if row is not None and entry.blank == "error" and self._is_refused_as_blank(entry, row):
            return None
        rendered = entry.rendered(variant, self.day)
        if variant.source is not None:
            # What is made for a picture shares nothing: each has another one.
            return self._check_whole(entry, variant, rendered)
        shared = self._shared_by(entry, model)
        key = None if shared.form else shared.key(rendered)
        form = shared.form or self._forms.get(key)
        if form is None:
            checked = self._check_whole(entry, variant, rendered)
            if checked is not None:
                self._keep(checked.form, shared, key)
            return checked
        given = {**shared.free_constants, **rendered}
        try:
            free = {name: check(given[name]) for name, check in shared.validators if name in given}
        except ValidationError:
            return self._check_whole(entry, variant, rendered)  # it finds the same, and tells it
        return CheckedInput(form, free, free.get("prompt", form.values.prompt))

    def _shared_by(self, entry: Entry, model: Model) -> "_Shared":
        shared = self._shared
        if shared is None or shared.entry is not entry or shared.model is not model:
            if shared is not None and shared.is_like(entry, model):
                shared.use(entry)
            else:
                shared = self._shared = _Shared(entry, model)
        return shared

    def _keep(self, form: "InputForm", shared: "_Shared", key: Hashable) -> None:
        if len(self._forms) == _MOST_FORMS:
            self._forms.clear()
        self._forms[key] = form
        if shared.has_one_form:
            shared.form = form

    def _is_refused_as_blank(self, entry: Entry, row: Row) -> bool:
        if all(map(str.strip, row.values.values())) or not (blank := entry.blank_columns(row)):
            return False
        message = (
            f"row {row.number}: {' and '.join(blank)} {'is' if len(blank) == 1 else 'are'} "
            "blank: fill in, or write blank: skip or blank: empty for this prompt"
        )
        self._notes(entry).add_bad(row.line, message)
        return True

    def _check_whole(
        self, entry: Entry, variant: Variant, rendered: Mapping[str, Any]
    ) -> CheckedInput | None:
        """As ``check``, of every input."""
        row, model = variant.row, variant.model

        def add(keys: tuple[str, ...], message: str) -> None:
            if row is not None and entry.skips_bad_rows and keys[0] in entry.templates:
                where = f"row {row.number}: {keys[0]}: {message}"
                self._notes(entry).add_bad(row.line, where)
            else:
                self.expansion.add_to_input(self.problems, entry, variant, keys[0], message)

        given: Mapping[str, Any] = {**entry.constants, **rendered}
        pictures: tuple[InputPicture, ...] = ()
        if not model.pictures.keys().isdisjoint(given):
            read = self._read_pictures(variant, given, add)
            if read is None:
                return None
            given, pictures = read
        if variant.source is not None and is_planned(variant.source.picture):
            # Also where only its text is used: what follows waits for the picture.
            pictures = tuple(dict.fromkeys([*pictures, variant.source.picture]))
        values = validate_input(model, given, add)
        if values is None:
            return None
        checked = values.values()
        free = {name: checked[name] for name in model.free_inputs if name in given}
        return CheckedInput(InputForm(model, values, pictures), free, values.prompt)

    def _read_pictures(
        self, variant: Variant, given: Mapping[str, Any], on_problem: OnProblem
    ) -> tuple[Mapping[str, Any], tuple[InputPicture, ...]] | None:
        """The inputs with each file named by its checksum, and the pictures; None if one is bad."""
        found: dict[str, InputPicture] = {}
        read: dict[str, Any] = {}
        is_right = True
        source = variant.source.picture if variant.source else None
        for name in variant.model.pictures.keys() & given.keys():
            values = given[name] if isinstance(given[name], list) else [given[name]]
            references = []
            for value in values:
                if not isinstance(value, str) or value.startswith("https://"):
                    references.append(value)
                    continue
                if source is not None and value == source.reference:
                    found[source.sha256] = source
                    references.append(value)
                    continue
                try:
                    picture = read_picture(self.expansion.folder, value)
                except ValueError as error:
                    on_problem((name,), f"{quoted(value)} {error}")
                    is_right = False
                    continue
                found[picture.sha256] = picture
                references.append(picture.reference)
            if references:
                read[name] = references if isinstance(given[name], list) else references[0]
        return ({**given, **read}, tuple(found.values())) if is_right else None

    def _notes(self, entry: Entry) -> RowNotes:
        return RowNotes(self.problems, self.skipped, entry, self.expansion.path_of(entry))


class _Shared:
    """What all prompts have in common of one entry, and of those like it, with one model."""

    def __init__(self, entry: Entry, model: Model) -> None:
        free = model.free_inputs
        self.entry = entry
        self.model = model
        self.form: InputForm | None = None
        """The form of all of them, once it is known, where there is only one."""
        self.free_constants = {name: v for name, v in entry.constants.items() if name in free}
        self.validators = [(name, model.validator(name)) for name in sorted(free)]
        self._free = [name for name in entry.templates if name in free]
        self._others = [name for name in entry.templates if name not in free]
        # By their letters: 1, 1.0 and True are equal, and not the same input.
        constants = [item for item in entry.constants.items() if item[0] not in free]
        self._constants = repr((model.name, constants, list(self.free_constants)))

    def is_like(self, entry: Entry, model: Model) -> bool:
        """Whether another entry differs in the values of free inputs alone, as most do."""
        mine, theirs = self.entry.constants, entry.constants
        return (
            model is self.model
            and entry.blank == self.entry.blank
            and list(entry.templates) == list(self.entry.templates)
            and list(theirs) == list(mine)
            and all(
                _are_alike(theirs[name], mine[name])
                for name in mine
                if name not in self.free_constants
            )
        )

    def use(self, entry: Entry) -> None:
        """Go on with an entry that is like the one before."""
        self.entry = entry
        self.free_constants = {name: entry.constants[name] for name in self.free_constants}

    @property
    def has_one_form(self) -> bool:
        """Whether all of them have the same inputs, but for the values of free ones."""
        return not self._others and self.entry.blank != "empty"

    def key(self, rendered: Mapping[str, Any]) -> Hashable:
        """Equal where the same inputs are given, and all but the free ones are alike."""
        given = tuple([name in rendered for name in self._free])
        return self._constants, given, repr([rendered.get(name) for name in self._others])


def _are_alike(one: Any, other: Any) -> bool:
    """Whether two values are written in the same letters, as 1 and True, which are equal, aren't.

    Of other values than texts only the very same one is.
    """
    return one is other or (type(one) is type(other) is str and one == other)


def _comparable(model: Model, given: Mapping[str, Any]) -> str:
    """All inputs but the free ones, as ``CheckedInput.comparable`` takes them."""
    compared = dict(given)
    prompt = compared.get("prompt")
    if isinstance(prompt, str):
        compared["prompt"] = unicodedata.normalize("NFC", prompt)
    for name in model.address_fields:
        address = given.get(name)
        if isinstance(address, str) and "?" in address:
            compared[name] = comparable_url(address)
    return _ENCODER.encode([model.name, compared])
