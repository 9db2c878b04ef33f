"""Loads prompt sets: from a folder, from one file, or from a mapping that another project holds."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flux_pipeline.errors import ConfigError, Problem, Problems
from flux_pipeline.models import MODELS, Model, find_model
from flux_pipeline.prompts.checks import Expansion, ExpansionReport, check
from flux_pipeline.prompts.document import MAX_BYTES, Document, Part, parse_yaml
from flux_pipeline.prompts.entries import Entry, read_entries
from flux_pipeline.prompts.form import (
    ByDay,
    ByPrompt,
    PromptSetForm,
    checked_set_name,
    checked_version,
)
from flux_pipeline.prompts.messages import explain
from flux_pipeline.prompts.prompt_set import PromptSet

MAX_BY_PROMPT = 1_000
"""A partition costs the orchestrator 10 to 24 ms: above this number shards are the right cut."""
SHARD_PROMPTS = 500
"""The size of shard that is proposed."""
TABLE_BYTES_READ_ON_LOADING = 2 * 2**20
"""Loading happens at the start of every process; a larger table is read whole when it is used."""


def load_prompt_sets(folder: Path) -> tuple[PromptSet, ...]:
    """Every prompt set of a folder (``*.yaml`` and ``*.yml``, not in its subfolders), by file name.

    Raises:
        ConfigError: with all the problems of all the files at once.
    """
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else f"no such folder, seen from {Path.cwd()}"
        raise ConfigError([Problem(str(folder), 0, "", what)])
    problems = Problems()
    sets: dict[str, PromptSet] = {}
    for path in _yaml_files(folder):
        try:
            loaded = load_prompt_set(path)
        except ConfigError as error:
            problems.add_all(error.problems)
            continue
        if loaded.name in sets:
            message = f"is named {loaded.name}, and so is {sets[loaded.name].path}: rename one"
            problems.add(str(path), 0, "", message)
        sets[loaded.name] = loaded
    problems.raise_if_any()
    return tuple(sets.values())


def load_prompt_set(path: Path) -> PromptSet:
    """The prompt set of one file, named after it; a hyphen becomes an underscore.

    Raises:
        ConfigError: with everything that is wrong with the file and its tables.
    """
    data = _read(path)
    return assemble(path.stem, str(path), parse_yaml(data, str(path)), data, path.parent)


def build_prompt_set(
    name: str,
    document: Mapping[str, Any] | Document,
    *,
    path: str = "",
    folder: Path | None = None,
) -> PromptSet:
    """The prompt set of a mapping, such as a component's attributes in another project.

    Values may be text, as a file gives it, or numbers; a ``Document`` gives messages their lines.
    Tables are looked for from ``folder`` on, else from the folder of ``path``, else from the
    working folder.

    Raises:
        ConfigError: with everything that is wrong.
    """
    source = document if isinstance(document, Document) else Document(path or name, document)
    path = path or (source.path if source is document else "")
    data = json.dumps(source.value, default=str).encode()
    return assemble(name, path, source, data, folder or Path(path).parent)


def read_part(path: Path, part: Part) -> Document:
    """What a prompt set file would hold, where it is a part of another file: by the same rules.

    Raises:
        ConfigError: with everything that is wrong with that part's YAML.
    """
    return parse_yaml(_read(path), str(path), part)


def _yaml_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in {".yaml", ".yml"})
    except OSError as error:
        message = f"can't be read: {error.strerror}"
        raise ConfigError([Problem(str(folder), 0, "", message)]) from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        message = f"no such file, seen from {Path.cwd()}"
    except IsADirectoryError:
        message = "is a folder; a prompt set is a file"
    except OSError as error:
        message = f"can't be read: {error.strerror}"
    raise ConfigError([Problem(str(path), 0, "", message)])


def assemble(name: str, path: str, document: Document, data: bytes, folder: Path) -> PromptSet:
    """The prompt set of a document; ``data`` is what its checksum is taken of.

    Raises:
        ConfigError: with everything that is wrong.
    """
    problems = Problems()
    problems.add_all(document.duplicates)
    try:
        name = checked_set_name(name)
    except ValueError as error:
        problems.add(document.path, 0, "", str(error))
    form = _form(document, problems)
    model = _model(document, problems)
    version = _version(document, model, problems)
    day = _first_day(document, form)
    entries = read_entries(document, model, folder, by_day=bool(day), problems=problems)
    expansion = Expansion(document, model, entries)
    is_small = all(_is_small(entry) for entry in entries)
    findings = check(
        expansion,
        day=day,
        wants=lambda _name: True,
        max_rows=None if is_small else MAX_BY_PROMPT + 1,
        max_names=MAX_BY_PROMPT,
    )
    problems.add_all(findings.problems.as_tuple())
    if form is None:
        raise ConfigError(problems.as_tuple())
    is_by_prompt = isinstance(form.partitions, ByPrompt)
    if is_by_prompt:
        _refuse_many(document, findings, problems, is_small=is_small)
    automation = _automation(document, form, problems)
    problems.raise_if_any()
    return PromptSet(
        name=name,
        path=path,
        config_sha256=_config_sha256(data, entries),
        description=form.description,
        model=model,
        version=version,
        owners=tuple(form.owners),
        tags=form.tags,
        partitions=form.partitions,
        schedule=form.schedule,
        budget=form.budget,
        automation=automation,
        warnings=findings.warnings.as_tuple(),
        prompt_names=tuple(findings.names) if is_by_prompt else (),
        is_checked=is_small,
        expansion=expansion,
    )


def _form(document: Document, problems: Problems) -> PromptSetForm | None:
    try:
        return PromptSetForm.model_validate(dict(document.value))
    except ValidationError as error:
        for keys, message in explain(error, PromptSetForm):
            problems.add(document.path, document.line(*keys), ".".join(keys), message)
    return None


def _model(document: Document, problems: Problems) -> Model:
    """The model named; where there is none, one to check the rest of the file with."""
    name = document.value.get("model")
    if isinstance(name, str):
        try:
            return find_model(name)
        except KeyError as error:
            problems.add(document.path, document.line("model"), "model", str(error.args[0]))
    return MODELS[0]


def _version(document: Document, model: Model, problems: Problems) -> str:
    version = document.value.get("version")
    if isinstance(version, str):
        try:
            return checked_version(version, model.name)
        except ValueError as error:
            problems.add(document.path, document.line("version"), "version", str(error))
    return model.version


def _first_day(document: Document, form: PromptSetForm | None) -> str:
    """A day to try ``{date}`` with; empty where partitions aren't days."""
    if form is not None:
        return form.partitions.start.isoformat() if isinstance(form.partitions, ByDay) else ""
    cut = document.value.get("partitions")
    return "2000-01-01" if isinstance(cut, dict) and cut.get("by") == "day" else ""


def _is_small(entry: Entry) -> bool:
    return entry.table is None or entry.table.size <= TABLE_BYTES_READ_ON_LOADING


def _refuse_many(
    document: Document, findings: ExpansionReport, problems: Problems, *, is_small: bool
) -> None:
    if findings.count > MAX_BY_PROMPT:
        many = f"{findings.count:,}" if is_small else f"more than {MAX_BY_PROMPT:,}"
        shards = -(-findings.count // SHARD_PROMPTS) if is_small else 100
        message = (
            f"{many} prompts are too many for a partition each (at most {MAX_BY_PROMPT:,}): "
            f"write partitions: {{by: shard, count: {shards}}}"
        )
        problems.add(document.path, document.line("partitions"), "partitions", message)


def _automation(document: Document, form: PromptSetForm, problems: Problems) -> str:
    automation = form.automation or ("on_schedule" if form.schedule else "none")
    message = ""
    if automation == "on_schedule" and form.schedule is None:
        message = "on_schedule needs a schedule: add schedule: {cron: ...}"
    elif automation == "on_change" and form.schedule is not None:
        message = "on_change and a schedule exclude each other: leave one out"
    if message:
        problems.add(document.path, document.line("automation"), "automation", message)
    return automation


def _config_sha256(data: bytes, entries: tuple[Entry, ...]) -> str:
    digest = hashlib.sha256(data)
    for entry in entries:
        if entry.table is not None:
            digest.update(entry.table.sha256.encode())
    return digest.hexdigest()
