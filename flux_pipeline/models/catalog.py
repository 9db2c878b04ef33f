"""The catalog of models: those built in, and a project's own; and the requests built for them.

A project's own models are contracts in ``models/<owner>/<name>.yaml`` of its configs folder, which
``flux-pipeline model add`` writes; one of them goes before a built-in one of the same name.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from flux_pipeline.models import flux_schnell_lora
from flux_pipeline.models.base import Model, ModelInput
from flux_pipeline.models.price import Price
from flux_pipeline.models.request_form import RequestForm
from flux_pipeline.request import InputPicture, JsonValue, Request, Source, fingerprint

FOLDER = "models"
"""The folder of contracts within a folder of prompt sets."""
SHIPPED = Path(__file__).parent / "contracts"
"""The contracts that come with this package."""
TYPED_MODELS: tuple[Model, ...] = (flux_schnell_lora.MODEL,)
"""The models with rules of their own in Python."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """The models that a project can name: contracts of ``folders``, in their order, then ours."""

    folders: tuple[Path, ...] = ()

    @classmethod
    def of_configs(cls, *folders: Path | None) -> "Catalog":
        """The catalog of folders that hold prompt sets."""
        return cls(tuple(dict.fromkeys(each / FOLDER for each in folders if each is not None)))

    def find(self, name: str) -> Model:
        """The model called ``owner/name``, exactly.

        Raises:
            KeyError: No such model; the message names the nearest and what to do.
            ConfigError: Its contract is wrong.
        """
        for folder in self.folders:
            path = contract_path(folder, name)
            if path is not None and path.is_file():
                return _load(path, path.stat().st_mtime_ns)
        for model in TYPED_MODELS:
            if model.name == name:
                return model
        path = contract_path(SHIPPED, name)
        if path is not None and path.is_file():
            return _load(path, 0)
        near = difflib.get_close_matches(name, list(self.names()), n=1, cutoff=0.75)
        hint = f"did you mean {near[0]}?" if near else f"add it: flux-pipeline model add {name}"
        raise KeyError(f"no model of that name; {hint}")

    def names(self) -> Iterator[str]:
        """The names of all models, each once, the project's own first."""
        own = [name for folder in self.folders for name in contract_names(folder)]
        typed = [model.name for model in TYPED_MODELS]
        yield from dict.fromkeys([*own, *typed, *contract_names(SHIPPED)])

    def models(self) -> Iterator[Model]:
        """Every model, in the order of ``names``.

        Raises:
            ConfigError: A contract is wrong.
        """
        yield from map(self.find, self.names())

    def origin(self, name: str) -> str:
        """Where a model comes from: its file, or ``built in``."""
        for folder in self.folders:
            path = contract_path(folder, name)
            if path is not None and path.is_file():
                return str(path)
        return "built in"


BUILT_IN = Catalog()
"""The models that come with this package, alone."""


def find_model(name: str) -> Model:
    """The built-in model called ``owner/name``, exactly.

    Raises:
        KeyError: No such model; the message names the nearest and what to do.
    """
    return BUILT_IN.find(name)


def contract_path(folder: Path, name: str) -> Path | None:
    """The file of a model's contract; None for a text that is no model's name."""
    owner, slash, rest = name.partition("/")
    is_plain = all(part and not part.startswith(".") and "\\" not in part for part in (owner, rest))
    return folder / owner / f"{rest}.yaml" if slash and is_plain and "/" not in rest else None


def contract_names(folder: Path) -> Sequence[str]:
    """The models whose contracts lie in a folder, by name."""
    return sorted(f"{path.parent.name}/{path.stem}" for path in folder.glob("*/*.yaml"))


@cache
def _load(path: Path, changed_at: int) -> Model:
    """The model of a file; read once, and again after a change."""
    # Only who names such a model pays for reading YAML.
    from flux_pipeline.models.contract_file import load_contract  # noqa: PLC0415
    from flux_pipeline.models.contract_model import build_model  # noqa: PLC0415

    del changed_at
    return build_model(load_contract(path))


def build_request(
    model: Model,
    values: ModelInput,
    source: Source,
    *,
    version: str | None = None,
    pictures: Sequence[InputPicture] = (),
    day: str = "",
) -> Request:
    """The request that sends exactly the fields given to ``values``.

    Its fingerprint covers the effective input: two requests that must give the same image have
    the same one, however they are written. ``version`` (64 hex digits) overrides the pinned one.
    ``pictures`` are those that the values name by their hash. Of a model without a seed the take
    and the ``day`` count too: nothing else tells them apart.
    """
    form = RequestForm(model, values, version=version, pictures=pictures)
    given = values.sent()
    return form.request({name: given[name] for name in form.names}, source, day=day)


def effective_input(request: Request) -> Mapping[str, JsonValue]:
    """The input that decided the image, with the model's defaults filled in, for records.

    A request of a model that is no longer known comes back as it was sent.
    """
    if request.defaults:
        return {**request.defaults, **request.input}
    for model in TYPED_MODELS:
        if model.name == request.model:
            try:
                return model.validate(request.input).effective()
            except ValidationError:
                break
    return request.input


def has_built_in_rules(request: Request) -> bool:
    """Whether the request's model is one with rules of its own in Python, and not a contract."""
    return not request.defaults and any(model.name == request.model for model in TYPED_MODELS)


def shared_input(request: Request) -> str:
    """What tells apart the inputs that the provider is sent, where several requests may share one.

    64 hex digits for a request without a seed, whose takes are sent alike; empty for any other.
    """
    if request.seed is not None:
        return ""
    version = request.model if request.is_official else request.version
    return fingerprint(version, effective_input(request))


def measured_usd(request: Request, metrics: Mapping[str, float], *, outputs: int) -> float | None:
    """What a prediction came to by the provider's metrics, USD; None where they don't tell."""
    if request.price:
        return Price.model_validate(request.price).measure(metrics, outputs=outputs)
    known = next((model for model in TYPED_MODELS if model.name == request.model), None)
    return None if known is None else known.price.measure(metrics, outputs=outputs)


def known_defaults(request: Request) -> Mapping[str, JsonValue]:
    """What the model fills in where a request gives nothing, nulls included; empty if unknown."""
    if request.defaults:
        return request.defaults
    for model in TYPED_MODELS:
        if model.name == request.model:
            return {name: each.default for name, each in model.fields.items()}
    return {}
