"""Compares a request with an entry of the provider's list.

Three answers, because absence must be proven: an entry that shows its whole input either is ours
or is not, one that hides a part of it only may be.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from flux_pipeline.models import find_model
from flux_pipeline.redaction import redact_untrusted_json
from flux_pipeline.request import Request

_MISSING = object()


class Match(Enum):
    """How an entry of the list relates to a request."""

    OURS = "ours"
    """Same version, and its input is ours, but for defaults."""
    OTHER_VERSION = "other version"
    """The same but for the version: the provider served another one."""
    UNCLEAR = "unclear"
    """It does not show enough of its input to tell."""
    NO = "no"


def matches(entry: Mapping[str, Any], request: Request) -> Match:
    """Compare one entry with a request that has a seed of its own.

    Both inputs are redacted first: a provider may show ours with its secrets blanked out. It may
    add the model's own defaults, and nothing else; a part of ours that it leaves out makes the
    answer unclear.
    """
    model = entry.get("model")
    if isinstance(model, str) and model and model.partition(":")[0] != request.model:
        return Match.NO
    shown = entry.get("input")
    if not isinstance(shown, Mapping):
        return Match.UNCLEAR
    if not _equal(request.seed, shown.get("seed", request.seed)):
        return Match.NO  # decides nearly always, before the costly comparison
    compared = _compare(
        redact_untrusted_json(request.input), redact_untrusted_json(shown), request.model
    )
    if compared is not Match.OURS:
        return compared
    version = entry.get("version")
    same = isinstance(version, str) and version.rpartition(":")[2] == request.version
    return Match.OURS if same else Match.OTHER_VERSION


def _compare(ours: Mapping[str, Any], theirs: Mapping[str, Any], model: str) -> Match:
    """Compare two redacted inputs; what they have beyond ours must be the model's defaults.

    Anything else there is an earlier or later form of an edited prompt, which kept its seed.
    """
    hidden = False
    for name, value in ours.items():
        given = theirs.get(name, _MISSING)
        if given is _MISSING:
            hidden = hidden or value is not None
        elif not _equal(value, given):
            return Match.NO
    defaults = _defaults(model)
    for name in theirs.keys() & defaults.keys() - ours.keys():
        if theirs[name] is not None and not _equal(theirs[name], defaults[name]):
            return Match.NO
    return Match.UNCLEAR if hidden else Match.OURS


def _defaults(model: str) -> Mapping[str, Any]:
    try:
        fields = find_model(model).input_type.model_fields
    except KeyError:
        return {}
    return {name: field.default for name, field in fields.items()}


def _equal(ours: Any, theirs: Any) -> bool:
    """Whether two JSON values are the same; 1 and 1.0 are, 1 and true are not."""
    if isinstance(ours, bool) or isinstance(theirs, bool):
        return ours is theirs
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return ours.keys() == theirs.keys() and all(
            _equal(value, theirs[name]) for name, value in ours.items()
        )
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_equal, ours, theirs))
    return bool(ours == theirs)
