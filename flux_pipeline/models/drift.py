"""Compares a model's contract with what the provider says of it today, and takes that over.

The provider changes inputs and defaults under one version id, so only a comparison shows it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flux_pipeline.models.contract import Contract, InputSpec
from flux_pipeline.request import JsonValue

_FACTS = (
    *("type", "items", "format", "required", "deprecated"),
    *("enum", "minimum", "maximum", "default"),
)
_SINGLE_ROLES = ("seed", "count", "format", "width", "height", "aspect_ratio")
_TYPED_FACTS = ("default",)
"""Rules in Python are narrower than the provider's on purpose; their defaults must be its own."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that the provider says otherwise than the contract."""

    what: str
    """``input added``, ``input removed``, ``output``, ``version``, or a key of an input."""
    input: str
    """The input's name; empty where it is about the whole model."""
    before: JsonValue
    after: JsonValue

    def __str__(self) -> str:
        if self.what == "input added":
            return f"{self.input}: is new ({self.after})"
        if self.what == "input removed":
            return f"{self.input}: is gone"
        name = f"{self.input}: {self.what}" if self.input else self.what
        return f"{name}: {_shown(self.before)} -> {_shown(self.after)}"


def compare_contracts(ours: Contract, theirs: Contract, *, typed: bool = False) -> list[Change]:
    """What ``theirs``, read from the provider, says otherwise than ``ours``.

    Descriptions don't count, nor whether null is allowed, which the provider's own routes tell
    differently. ``typed``: ours are rules in Python, of which names and defaults are compared.
    """
    facts = _TYPED_FACTS if typed else _FACTS
    changes = list(_input_changes(ours.inputs, theirs.inputs, facts))
    if not typed and ours.output.kind != theirs.output.kind:
        changes.append(Change("output", "", ours.output.kind, theirs.output.kind))
    if ours.version != theirs.version:
        changes.append(Change("version", "", ours.version, theirs.version))
    return changes


def _input_changes(
    ours: Mapping[str, InputSpec], theirs: Mapping[str, InputSpec], facts: tuple[str, ...]
) -> Iterator[Change]:
    for name in ours.keys() - theirs.keys():
        yield Change("input removed", name, describe_limits(ours[name]), None)
    for name, spec in theirs.items():
        if name not in ours:
            kind = f"{'needed, ' if spec.required else ''}{describe_limits(spec)}"
            yield Change("input added", name, None, kind)
            continue
        known = ours[name].model_dump(mode="json")
        found = spec.model_dump(mode="json")
        for fact in facts:
            if known[fact] != found[fact]:
                yield Change(fact, name, known[fact], found[fact])


def describe_limits(spec: InputSpec) -> str:
    """The values that an input takes, in words."""
    if spec.enum:
        return f"one of {', '.join(map(str, spec.enum))}"
    if spec.format == "password":
        return "a secret, as env:NAME"
    kind = {"any": "text or a number", "uri": "an address"}.get(spec.type, spec.type)
    if spec.format == "uri":
        kind = "an address"
    if spec.type == "array":
        item = {"uri": "addresses", "any": "values", None: "values"}.get(spec.items)
        kind = f"a list of {item or f'{spec.items}s'}"
    low, high = spec.minimum, spec.maximum
    if low is not None and high is not None:
        return f"{kind}, {low} to {high}"
    if low is not None:
        return f"{kind}, at least {low}"
    return kind if high is None else f"{kind}, at most {high}"


def _shown(value: Any) -> str:
    if value is None or value in ("", []):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def renew(known: Contract, fresh: Contract) -> Contract:
    """The fresh contract, with the price and the roles that the known one was given by hand.

    A role is kept as long as its input is there, and one that was taken away stays away; an input
    that is new is taken for what it looks like.
    """
    single = {
        role: _kept_role(getattr(known, role), getattr(fresh, role), known, fresh)
        for role in _SINGLE_ROLES
    }
    pictures = {name: most for name, most in known.pictures.items() if _takes(fresh, name)}
    pictures |= {name: most for name, most in fresh.pictures.items() if name not in known.inputs}
    weights = [name for name in known.weights if name in fresh.inputs]
    weights += [name for name in fresh.weights if name not in known.inputs]
    return fresh.model_copy(
        update={
            **single,
            "pictures": {name: pictures[name] for name in fresh.inputs if name in pictures},
            "weights": tuple(weights),
            "description": known.description or fresh.description,
            "price": known.price if known.price.is_known else fresh.price,
            "image_format": known.image_format or fresh.image_format,
            "prompt_tokens": known.prompt_tokens or fresh.prompt_tokens,
        }
    )


def _kept_role(
    ours: str | None, theirs: str | None, known: Contract, fresh: Contract
) -> str | None:
    if ours in fresh.inputs:
        return ours
    is_taken_away = ours is None and theirs in known.inputs
    return None if is_taken_away else theirs


def _takes(contract: Contract, name: str) -> bool:
    return name in contract.inputs and contract.inputs[name].is_address
