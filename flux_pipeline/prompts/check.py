"""Expands a whole set without making requests, to find what only shows when it is expanded."""

from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import ValidationError

from flux_pipeline.errors import Problems
from flux_pipeline.models import ModelInput
from flux_pipeline.prompts.advice import advise
from flux_pipeline.prompts.entry import Entry, SeedRule, Variant
from flux_pipeline.prompts.expansion import Expansion
from flux_pipeline.prompts.explain import explain
from flux_pipeline.prompts.twins import Hashes, Twins, identity


@dataclass(slots=True)
class Findings:
    """What a check found."""

    names: list[str] = field(default_factory=list)
    """The names of the prompts in order, up to the number asked for."""
    count: int = 0
    """Of the prompts, takes not counted."""
    problems: Problems = field(default_factory=Problems)
    warnings: Problems = field(default_factory=Problems)


def check(
    expansion: Expansion,
    *,
    day: str = "",
    wants: Callable[[str], bool],
    max_rows: int | None = None,
    max_names: int = 0,
) -> Findings:
    """Check the inputs of all prompts, or of those that ``wants`` takes by name.

    Names are made, and must be unique, over the whole set. Of every table ``max_rows`` are looked
    at. Memory: 16 bytes a prompt, and some 40 more while they are sorted.
    """
    findings = Findings()
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
        for name, message in advise(expansion.model, values):
            expansion.add(findings.warnings, entry, variant, name, message)
        if entry.seed is SeedRule.GIVEN and entry.takes > 1:
            _check_last_seed(expansion, entry, variant, values, findings.problems)
    twins = Twins(names.repeated(), inputs.repeated())
    if twins:
        _name_twins(expansion, twins, findings, day=day, wants=wants, max_rows=max_rows)
    return findings


def _name_twins(
    expansion: Expansion,
    twins: Twins,
    findings: Findings,
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
