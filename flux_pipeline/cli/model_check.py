"""The part of `flux-pipeline model check` that asks the provider and looks at the prompt sets."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import click
from pydantic import ValidationError

from flux_pipeline.cli.workspace import choose_partitions, find_model
from flux_pipeline.errors import ConfigError
from flux_pipeline.models.catalog import Catalog, contract_names
from flux_pipeline.models.contract import Contract
from flux_pipeline.models.contract_model import build_model
from flux_pipeline.models.description import contract_of
from flux_pipeline.models.drift import Change, compare_contracts, renew
from flux_pipeline.models.provider_schema import NotAPictureModelError, read_contract
from flux_pipeline.prompts import PromptSet, load_prompt_sets
from flux_pipeline.request import OFFICIAL
from flux_pipeline.settings import Settings, find_missing_key
from flux_pipeline.text import count_noun, printable

if TYPE_CHECKING:
    from flux_pipeline.models import Model
    from flux_pipeline.provider.client import Provider

DRIFTED, UNANSWERED = 1, 2
"""Exit codes."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The provider did not say what a model is."""

    reason: str


Answer: TypeAlias = Mapping[str, Any] | Unanswered


@dataclass(slots=True)
class Touched:
    """The prompts of one set that a change touches."""

    prompts: int = 0
    """All that are made with the model."""
    made_anew: int = 0
    """Those whose effective input is another by what the provider says today."""
    refused: int = 0
    """Those that the model would refuse."""


@dataclass(slots=True)
class Checked:
    """What the look at one model found."""

    name: str
    version: str
    origin: str
    changes: list[Change] = field(default_factory=list)
    newer_version: str = ""
    """What the provider offers beside the pinned version, which goes on working."""
    unanswered: str = ""
    sets: dict[str, Touched] = field(default_factory=dict)


def check_models(
    settings: Settings, catalog: Catalog, names: Sequence[str], *, as_json: bool
) -> int:
    """Check the models, print what was found, and return the exit code.

    Raises:
        ConfigError: The prompt sets, or a model's file, are wrong; or there is no key.
    """
    sets = load_prompt_sets(settings.configs) if settings.configs.is_dir() else ()
    models = [find_model(catalog, name) for name in names or _in_use(catalog, sets)]
    pinned = [(each.name, "" if each.version == OFFICIAL else each.version) for each in models]
    answers = ask(settings, pinned) if models else []
    found = [
        _check(catalog, model, answer, sets) for model, answer in zip(models, answers, strict=True)
    ]
    if as_json:
        click.echo(json.dumps(_as_json(found)))
    else:
        for line in _lines(found):
            click.echo(printable(line))
    if any(each.changes for each in found):
        return DRIFTED
    return UNANSWERED if any(each.unanswered for each in found) else 0


def _in_use(catalog: Catalog, sets: Sequence[PromptSet]) -> Sequence[str]:
    """This folder's own models, and those that its prompt sets are made with."""
    own = [name for folder in catalog.folders for name in contract_names(folder)]
    used = [model.name for prompt_set in sets for model in prompt_set.models]
    return list(dict.fromkeys([*own, *used]))


def ask(settings: Settings, models: Sequence[tuple[str, str]]) -> list[Answer]:
    """What the provider says of each model, and of its version (64 hex digits) where one is given.

    Raises:
        ConfigError: The provider's address or key is wrong or missing.
    """
    # Only who asks pays for the HTTP stack, and for Dagster, in whose resource the provider is.
    import anyio

    from flux_pipeline.resources import ImageProducer

    if problem := find_missing_key(settings):
        raise ConfigError([problem])
    with ImageProducer.with_values(settings).open_provider() as make:

        async def ask_all() -> list[Answer]:
            async with make() as provider:
                return [await _ask(provider, name, version) for name, version in models]

        return anyio.run(ask_all)


async def _ask(provider: "Provider", name: str, version: str) -> Answer:
    """The model's reply; with a version, the version's description in place of the latest one's."""
    reply = await provider.get_model(name)
    if isinstance(reply, Mapping) and _latest(reply) == version:
        return reply
    if not version:
        return reply if isinstance(reply, Mapping) else Unanswered(_reason(reply))
    described = await provider.get_model(name, version)
    if not isinstance(described, Mapping):
        return Unanswered(_reason(described))
    if not isinstance(reply, Mapping):
        return described
    return {**reply, "latest_version": described, _NEWER: _latest(reply)}


_NEWER = "x-newer-version"


def _latest(reply: Mapping[str, Any]) -> str:
    latest = reply.get("latest_version")
    return str(latest.get("id") or "") if isinstance(latest, Mapping) else ""


def _reason(failure: object) -> str:
    return str(getattr(failure, "reason", "") or getattr(failure, "detail", "") or failure)


def _check(catalog: Catalog, model: "Model", answer: Answer, sets: Sequence[PromptSet]) -> Checked:
    found = Checked(model.name, model.version, catalog.origin(model.name))
    if isinstance(answer, Unanswered):
        found.unanswered = answer.reason
        return found
    ours = contract_of(model)
    # Older replies don't say whether a model is official.
    is_told = "is_official" in answer
    is_the_same = not is_told or answer["is_official"] == (model.version == OFFICIAL)
    try:
        version = model.version if is_the_same else ""
        theirs = read_contract(answer, name=model.name, version=version)
    except NotAPictureModelError as reason:
        found.changes = [Change("output", "", ours.output.kind, f"no pictures: {reason}")]
        return found
    except (ConfigError, ValueError) as error:
        found.unanswered = f"its reply can't be read: {error}"
        return found
    found.newer_version = str(answer.get(_NEWER) or "")
    is_typed = not hasattr(model, "contract")
    found.changes = compare_contracts(ours, theirs, typed=is_typed)
    if found.changes:
        found.sets = dict(_touched(model, renew(ours, theirs), sets))
    return found


def _touched(
    model: "Model", fresh: Contract, sets: Sequence[PromptSet]
) -> Iterator[tuple[str, Touched]]:
    """By prompt set, how many prompts are made with the model and what becomes of them.

    Of a set by day, today's are counted.
    """
    renewed = build_model(fresh)
    for prompt_set in sets:
        if all(each.name != model.name for each in prompt_set.models):
            continue
        counts = Touched()
        for request in prompt_set.requests(choose_partitions(prompt_set, None)):
            if request.model != model.name or request.source.take > 1:
                continue
            counts.prompts += 1
            before = model.validate(request.input).effective()
            try:
                counts.made_anew += renewed.validate(request.input).effective() != before
            except ValidationError:
                counts.refused += 1
        yield prompt_set.name, counts


def _as_json(found: Sequence[Checked]) -> dict[str, Any]:
    return {
        "ok": not any(each.changes or each.unanswered for each in found),
        "models": [
            {
                "model": each.name,
                "version": each.version,
                "from": each.origin,
                "drifted": bool(each.changes),
                "unanswered": each.unanswered or None,
                "newer_version": each.newer_version or None,
                "changes": [
                    {
                        "what": change.what,
                        "input": change.input or None,
                        "before": change.before,
                        "after": change.after,
                    }
                    for change in each.changes
                ],
                "sets": {
                    name: {
                        "prompts": counts.prompts,
                        "made_anew": counts.made_anew,
                        "refused": counts.refused,
                    }
                    for name, counts in each.sets.items()
                },
            }
            for each in found
        ],
    }


def _lines(found: Sequence[Checked]) -> Iterator[str]:
    for each in found:
        if each.unanswered:
            yield f"{each.name}: the provider can't say: {each.unanswered}"
        elif not each.changes:
            yield f"{each.name}: as it was"
        else:
            yield f"{each.name}: {count_noun(len(each.changes), 'change')}"
        yield from (f"  {change}" for change in each.changes)
        for name, counts in each.sets.items():
            prompts = count_noun(counts.prompts, "prompt")
            yield (
                f"  prompt set {name}: {prompts}, of which {counts.made_anew} would be made anew"
                f" and {counts.refused} refused"
            )
        if each.changes:
            yield f"  to take it over: flux-pipeline model add {each.name} --force"
        if each.newer_version:
            yield f"  a newer version is offered, {each.newer_version[:12]}; yours stays pinned"
    if not found:
        yield "no models: this folder has none of its own, and no prompt sets"
