"""Finds the sets that a prompt set is made for, and the partitions that it takes over from one."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from flux_pipeline.errors import Problems
from flux_pipeline.prompts.chain import Sources
from flux_pipeline.prompts.checks import ExpansionReport
from flux_pipeline.prompts.prompt_set import PromptSet
from flux_pipeline.prompts.schema import ByDay, ByPrompt, ByShard, PromptSetSchema
from flux_pipeline.prompts.yaml_document import Document

FindSet: TypeAlias = Callable[[str], PromptSet]
"""Finds a prompt set by its name, or raises LookupError that says why not."""


def find_sources(
    document: Document, find_set: FindSet, problems: Problems
) -> Mapping[str, PromptSet]:
    """The sets whose pictures the prompts are made for, by name."""
    sources: dict[str, PromptSet] = {}
    prompts = document.value.get("prompts")
    for key, body in prompts.items() if isinstance(prompts, Mapping) else ():
        name = _each_of(body)
        if name is None or name in sources:
            continue
        try:
            sources[name] = find_set(name)
        except LookupError as error:
            place = ("prompts", str(key), "each")
            problems.add(document.path, document.line(*place), ".".join(place), str(error.args[0]))
    return sources


def _each_of(body: Any) -> str | None:
    each = body.get("each") if isinstance(body, Mapping) else None
    name = each.get("set") if isinstance(each, Mapping) else each
    return name if isinstance(name, str) else None


def find_followed(
    document: Document,
    schema: PromptSetSchema | None,
    sources: Mapping[str, PromptSet],
    problems: Problems,
) -> PromptSet | None:
    """The set whose partitions this one has; None where it has its own."""
    prompts = document.value.get("prompts")
    if schema is None or not sources or not isinstance(prompts, Mapping):
        return None
    if schema.partitions is None:
        first = next(iter(sources.values()))
        if len(sources) > 1 or not all(map(_each_of, prompts.values())):
            message = (
                "are needed: its prompts are made for pictures of several sets, or for none, so it"
                " can't have the partitions of one; write partitions: {by: shard, count: 8}"
            )
            problems.add(document.path, document.line("prompts"), "partitions", message)
        return first
    for source in sources.values():
        if isinstance(source.partitions, ByDay):
            message = (
                f"can't be its own: {source.name} is made by day, and its days never end; leave"
                " partitions out, then both have the same days"
            )
            problems.add(document.path, document.line("partitions"), "partitions", message)
    return None


def choose_partitions(
    schema: PromptSetSchema | None, follows: PromptSet | None
) -> ByPrompt | ByShard | ByDay:
    """How a set is cut: as its file says, else as the set that it follows, else by prompt."""
    if schema is not None and schema.partitions is not None:
        return schema.partitions
    return ByPrompt(by="prompt") if follows is None else follows.partitions


def sources_to_check(
    sources: Mapping[str, PromptSet], follows: PromptSet | None, day: str
) -> Sources:
    """The pictures to try the prompts with: planned ones, of one day where partitions are days."""
    if follows is not None:
        return Sources(sources, [day] if day else None)
    countable = {
        name: source
        for name, source in sources.items()
        if not isinstance(source.partitions, ByDay)  # a mistake that is told already
    }
    return Sources(countable)


def partition_names(report: ExpansionReport, follows: PromptSet | None) -> tuple[str, ...]:
    """The keys of partitions by prompt: the set's own names, or those of the set it follows."""
    return tuple(report.names) if follows is None else follows.prompt_names
