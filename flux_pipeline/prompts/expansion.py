"""Turns entries into prompts with checked input, and says where what is wrong stands."""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from flux_pipeline.errors import Problems
from flux_pipeline.models import Model, ModelInput
from flux_pipeline.prompts.entry import Entry, Variant
from flux_pipeline.prompts.explain import explain
from flux_pipeline.prompts.yaml_document import Document


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
