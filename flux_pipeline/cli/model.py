"""`flux-pipeline model`: adds models to a project, shows them, and finds what has changed."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from flux_pipeline.models import Catalog, Model
    from flux_pipeline.models.contract import Contract
    from flux_pipeline.settings import Settings

_MOST_BYTES = 16 * 2**20
"""Of a saved reply; the largest that is known has 60 kB."""
_configs = click.option(
    "--configs", type=click.Path(path_type=Path), help="Folder of prompt sets. [FLUX_CONFIGS]"
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, and no text.")


@click.group()
def model() -> None:
    """Add models to a project, list and show them, and find what the provider has changed."""


@model.command()
@click.argument("name", metavar="OWNER/NAME[:VERSION]")
@click.option(
    "--file",
    "saved",
    type=click.Path(path_type=Path),
    help="A saved reply of GET /v1/models/OWNER/NAME, or of a version: nothing is asked.",
)
@click.option("--force", is_flag=True, help="Replace the file; its price and roles are kept.")
@_configs
def add(name: str, saved: Path | None, force: bool, configs: Path | None) -> None:
    """Write a model's contract below models/ in the folder of prompt sets; print its path.

    Then a prompt set names it, with model: OWNER/NAME. What was guessed is said on standard error:
    look at it, and commit the file. Exit code: 1 where the model makes no pictures, or its file is
    there and differs.
    """
    from flux_pipeline.models.catalog import FOLDER, contract_path

    settings = _settings(configs)
    owner_name, version = _parse_name(name)
    path = contract_path(settings.configs / FOLDER, owner_name)
    assert path is not None  # noqa: S101 - the name was parsed
    reply, place = _reply(settings, owner_name, version, saved)
    fresh = _read(reply, owner_name, version, place)
    # Older replies don't say whether a model is official, and give an id that nobody can ask for.
    is_told = bool(version) or "is_official" in reply
    fresh = _with_what_is_known(fresh, path, version_is_told=is_told)
    _write(path, fresh, force=force)
    _say_guesses(path, fresh)
    click.echo(str(path))


@model.command("list")
@_as_json
@_configs
def show_all(as_json: bool, configs: Path | None) -> None:
    """List the models that prompt sets can name: this folder's own, and those built in."""
    catalog = _catalog(_settings(configs))
    rows = [_summary(catalog, each) for each in catalog.models()]
    if as_json:
        click.echo(json.dumps(rows))
        return
    from rich.table import Table

    from flux_pipeline.cli import tables

    table = Table(box=None, pad_edge=False)
    for heading in ("model", "version", "price", "pictures in", "seed", "from"):
        table.add_column(heading, no_wrap=heading != "price")
    for row in rows:
        pictures = ", ".join(row["pictures"]) or "-"
        cells = (row["model"], row["version"][:12], row["price"], pictures, row["seed"] or "none")
        table.add_row(*cells, row["from"])
    tables.print_table(table)


@model.command()
@click.argument("name", metavar="OWNER/NAME")
@_as_json
@_configs
def show(name: str, as_json: bool, configs: Path | None) -> None:
    """Show a model: its inputs, what comes out, what it costs, and a prompt set to begin with."""
    from flux_pipeline.cli.workspace import find_model
    from flux_pipeline.models.description import contract_of

    catalog = _catalog(_settings(configs))
    found = find_model(catalog, name)
    contract = contract_of(found)
    shown = _described(catalog, found, contract)
    if as_json:
        click.echo(json.dumps(shown))
        return
    _print_described(shown)


@model.command()
@click.argument("names", nargs=-1, metavar="[OWNER/NAME]...")
@_as_json
@_configs
def check(names: tuple[str, ...], as_json: bool, configs: Path | None) -> None:
    """Compare models with what the provider says of them today, and say which prompts that touches.

    Without names: this folder's own models, and those that its prompt sets use. Exit code: 1 where
    something changed, 2 where the provider can't say.
    """
    from flux_pipeline.cli.model_check import check_models

    settings = _settings(configs)
    sys.exit(check_models(settings, _catalog(settings), names, as_json=as_json))


def _settings(configs: Path | None) -> "Settings":
    import os

    from flux_pipeline.settings import Settings

    if configs is not None:
        os.environ["FLUX_CONFIGS"] = str(configs)
    return Settings.of_process(os.environ)


def _catalog(settings: "Settings") -> "Catalog":
    from flux_pipeline.models import Catalog

    return Catalog.of_configs(settings.configs)


def _parse_name(text: str) -> tuple[str, str]:
    """``owner/name`` and the version's 64 hex digits, or an empty text."""
    import re

    from flux_pipeline.models.contract import MODEL_NAME

    name, colon, version = text.partition(":")
    if not re.fullmatch(MODEL_NAME, name):
        raise click.BadParameter(f"{text}: a model is named OWNER/NAME or OWNER/NAME:VERSION")
    if colon and not re.fullmatch(r"[0-9a-f]{64}", version):
        raise click.BadParameter(f"{text}: a version is 64 hex digits (0-9, a-f) behind the colon")
    return name, version


def _reply(
    settings: "Settings", name: str, version: str, saved: Path | None
) -> tuple[Mapping[str, Any], str]:
    """What the provider says of the model, and where that comes from, for messages."""
    if saved is not None:
        return _read_saved(saved, name, version), str(saved)
    from flux_pipeline.cli.model_check import Unanswered, ask

    (answer,) = ask(settings, [(name, version)])
    if isinstance(answer, Unanswered):
        _fail(
            f"{answer.reason}. Where the provider offers no models, save the reply of"
            f" GET /v1/models/{name} from one that does: flux-pipeline model add {name} --file FILE"
        )
    return answer, f"{settings.provider}, {name}"


def _read_saved(path: Path, name: str, version: str) -> Mapping[str, Any]:
    """A saved reply. Raises ConfigError where it can't be used, or is another model's."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        reply = json.loads(data) if len(data) <= _MOST_BYTES else None
    except OSError as error:
        _refuse(path, f"can't be read: {error.strerror}")
    except (ValueError, RecursionError):
        _refuse(path, "is no JSON: save the reply as it comes")
    if not isinstance(reply, dict):
        _refuse(path, "is no reply about a model: that is one JSON object, of some kB")
    described = f"{reply.get('owner')}/{reply.get('name')}"
    if "owner" in reply and described != name:
        _refuse(path, f"is about {described}, not about {name}")
    latest = reply.get("latest_version")
    found = latest.get("id") if isinstance(latest, dict) else reply.get("id")
    if version and isinstance(found, str) and found != version:
        _refuse(path, f"describes version {found[:12]}, not {version[:12]}")
    return reply


def _refuse(path: Path, message: str) -> NoReturn:
    from flux_pipeline.errors import ConfigError, Problem

    raise ConfigError([Problem(str(path), 0, "", message)])


def _read(reply: Mapping[str, Any], name: str, version: str, place: str) -> "Contract":
    from flux_pipeline.models.provider_schema import NotAPictureModelError, read_contract

    try:
        return read_contract(reply, name=name, version=version, place=place)
    except NotAPictureModelError as reason:
        _fail(f"{name} {reason}: such models can't be used here, and nothing was written")
    except ValueError as error:
        _refuse(Path(place), str(error))


def _fail(message: str) -> NoReturn:
    click.echo(f"error: {message}", err=True)
    sys.exit(1)


def _with_what_is_known(fresh: "Contract", path: Path, *, version_is_told: bool) -> "Contract":
    """The contract with the price and roles of the file that is there, else of a built-in one."""
    from flux_pipeline.models.catalog import SHIPPED, contract_path
    from flux_pipeline.models.contract_file import load_contract
    from flux_pipeline.models.drift import renew
    from flux_pipeline.request import OFFICIAL

    shipped = contract_path(SHIPPED, fresh.model)
    there = [each for each in (path, shipped) if each is not None and each.is_file()]
    if not there:
        return fresh
    known = load_contract(there[0])
    renewed = renew(known, fresh)
    is_official = known.version == OFFICIAL and not version_is_told
    return renewed.model_copy(update={"version": OFFICIAL}) if is_official else renewed


def _write(path: Path, contract: "Contract", *, force: bool) -> None:
    """Write the file, whole or not at all; an other one that is there is shown, and kept."""
    import difflib
    import os

    from flux_pipeline.models.contract_file import dump_contract
    from flux_pipeline.text import printable

    text = dump_contract(contract)
    before = path.read_text("utf-8") if path.is_file() else None
    if before == text:
        click.echo("as it was", err=True)
        return
    if before is not None:
        lines = (before.splitlines(), text.splitlines())
        for line in difflib.unified_diff(*lines, str(path), "as the provider says", lineterm=""):
            click.echo(printable(line), err=True)
        if not force:
            _fail(f"{path} is there already, and differs: --force takes over what is shown")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        unfinished.write_text(text, "utf-8")
        unfinished.replace(path)
    except OSError as error:
        _refuse(path, f"can't be written: {error.strerror}")


def _say_guesses(path: Path, contract: "Contract") -> None:
    """Say what was read off the names of the inputs, which nothing but a look can confirm."""
    pictures = [f"{name} (up to {most})" for name, most in contract.pictures.items()]
    size = [name for name in (contract.width, contract.height, contract.aspect_ratio) if name]
    price = "unknown: write price: {usd_per_image: …} into the file, or no budget can be kept"
    guessed = {
        "version": contract.version[:12],
        "pictures in": ", ".join(pictures) or "none",
        "seed": contract.seed or "none: each take is another picture of the same input",
        "number of pictures": contract.count or "no input asks for one",
        "file format": contract.format or contract.image_format or "as the model chooses",
        "size": ", ".join(size) or "known when a picture is there",
        "weights": ", ".join(contract.weights) or "none",
        "price": contract.price.describe() if contract.price.is_known else price,
    }
    click.echo(f"guessed by the inputs' names; mend it in {path} where it is wrong:", err=True)
    for what, value in guessed.items():
        click.echo(f"  {what:<19} {value}", err=True)
    from flux_pipeline.models.catalog import TYPED_MODELS

    if contract.model in {each.name for each in TYPED_MODELS}:
        click.echo(
            "note: the file goes before the rules that are built in; delete it for", err=True
        )
        click.echo("those: they check LoRA references and sizes too", err=True)


def _summary(catalog: "Catalog", each: "Model") -> dict[str, Any]:
    return {
        "model": each.name,
        "version": each.version,
        "price": each.price.describe(),
        "price_known": each.price.is_known,
        "pictures": list(each.pictures),
        "seed": each.seed_input or None,
        "from": catalog.origin(each.name),
    }


def _described(catalog: "Catalog", found: "Model", contract: "Contract") -> dict[str, Any]:
    from flux_pipeline.models.description import describe_input, example_prompt_set

    inputs = {
        name: {
            **spec.model_dump(mode="json", exclude_defaults=True, exclude={"description"}),
            "allowed": describe_input(contract, name),
            "required": spec.required,
            "default": spec.default,
            "description": spec.description,
        }
        for name, spec in contract.inputs.items()
    }
    return {
        **_summary(catalog, found),
        "description": contract.description,
        "pictures": dict(contract.pictures),
        "count": contract.count,
        "format": contract.format,
        "image_format": contract.image_format,
        "weights": list(contract.weights),
        "output": contract.output.model_dump(mode="json"),
        "prices": contract.price.model_dump(mode="json", exclude_none=True),
        "inputs": inputs,
        "example": example_prompt_set(contract),
    }


def _print_described(shown: Mapping[str, Any]) -> None:
    from rich.table import Table

    from flux_pipeline.cli import tables
    from flux_pipeline.text import printable

    seed = shown["seed"] or "none: each take is another picture of the same input"
    lines = {
        "model": f"{shown['model']}: {shown['description']}".rstrip(": "),
        "version": shown["version"],
        "from": shown["from"],
        "price": shown["price"],
        "seed": seed,
        "comes out": _comes_out(shown),
    }
    for name, value in lines.items():
        click.echo(f"{name:<12}{printable(str(value))}")
    table = Table(box=None, pad_edge=False)
    for heading in ("input", "allowed", "default", "description"):
        table.add_column(heading, overflow="fold")
    for name, each in shown["inputs"].items():
        default = "needed" if each["required"] else _default(each["default"])
        old = "deprecated. " if each.get("deprecated") else ""
        cells = (name, each["allowed"], default, f"{old}{each['description']}")
        table.add_row(*(printable(cell) for cell in cells))
    click.echo()
    tables.print_table(table)
    click.echo(f"\nA prompt set to begin with, such as configs/first.yaml:\n\n{shown['example']}")


def _comes_out(shown: Mapping[str, Any]) -> str:
    counts = {"uri": "one picture", "uris": "pictures", "objects": "pictures"}
    keys: Sequence[str] = shown["output"]["pictures"]
    what = counts.get(shown["output"]["kind"], f"pictures: {', '.join(keys) or 'every value'}")
    number = f", as many as {shown['count']} asks for" if shown["count"] else ""
    chosen = shown["format"] and f"chosen by {shown['format']}"
    return f"{what}{number}; file format: {chosen or shown['image_format'] or 'by the model'}"


def _default(value: object) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
