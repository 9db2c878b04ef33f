"""Loads prompt sets from a folder, from one file, or from a mapping that another project holds.

Loading checks everything and reports all mistakes of all files at once. The exception: of tables
larger than 2 MiB only the first rows are read, because every process loads the sets; the rest is
checked when requests are asked for.
"""

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flux_pipeline.errors import ConfigError, Problem, Problems
from flux_pipeline.models import Catalog, Model
from flux_pipeline.models.catalog import TYPED_MODELS
from flux_pipeline.prompts.checks import ExpansionReport, check
from flux_pipeline.prompts.entries import read_entries
from flux_pipeline.prompts.expansion import DeferredExpansion, Entry, Expansion
from flux_pipeline.prompts.load_cache import (
    OFF,
    LoadCache,
    Record,
    contracts_digest,
    record_key,
    table_record,
)
from flux_pipeline.prompts.names import checked_set_name
from flux_pipeline.prompts.prompt_lines import find_prompt_lines
from flux_pipeline.prompts.prompt_set import PromptSet
from flux_pipeline.prompts.publication import (
    Choice,
    Facts,
    read_choice,
    read_publication,
    with_published_columns,
)
from flux_pipeline.prompts.schema import (
    Budget,
    ByDay,
    ByPrompt,
    ByShard,
    PromptSetSchema,
    checked_version,
)
from flux_pipeline.prompts.sources import (
    FindSet,
    choose_partitions,
    find_followed,
    find_sources,
    partition_names,
    sources_to_check,
)
from flux_pipeline.prompts.tables import Table
from flux_pipeline.prompts.validation import validate
from flux_pipeline.prompts.yaml_document import (
    MAX_BYTES,
    Document,
    YamlSection,
    decode_text,
    parse_yaml,
)

_INPUTS = frozenset({"prompts", "defaults"})
"""The keys of a set that hold inputs of a model."""
MAX_BY_PROMPT = 1_000
"""A partition costs the orchestrator 10 to 24 ms: beyond this number, shards are proposed."""
SHARD_PROMPTS = 500
"""The size of the shards that are proposed."""
MAX_TABLE_BYTES = 2 * 2**20
"""A larger table is not checked on loading, beyond its first rows."""


def load_prompt_sets(folder: Path, cache: LoadCache = OFF) -> tuple[PromptSet, ...]:
    """Every prompt set of a folder (``*.yaml`` and ``*.yml``, not in its subfolders), by file name.

    What the ``cache`` remembers of an unchanged file is not read again; sets that name pictures,
    are made for those of other sets or are published are always read.

    Raises:
        ConfigError: With all the problems of all the files at once.
    """
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else f"no such folder, seen from {Path.cwd()}"
        raise ConfigError([Problem(str(folder), 0, "", what)])
    problems = Problems()
    sets: dict[str, PromptSet] = {}
    siblings = _Siblings(folder, Catalog.of_configs(folder), cache)
    for path in _yaml_files(folder):
        try:
            loaded = siblings.load(path)
        except ConfigError as error:
            problems.add_all(error.problems)
            continue
        if loaded.name in sets:
            message = f"is named {loaded.name}, and so is {sets[loaded.name].path}: rename one"
            problems.add(str(path), 0, "", message)
        sets[loaded.name] = loaded
    _refuse_same_index(sets.values(), problems)
    problems.raise_if_any()
    return tuple(sets.values())


def _refuse_same_index(sets: Iterable[PromptSet], problems: Problems) -> None:
    """Two sets may share a place, but not the index: each would drop what the other published."""
    first: dict[str, str] = {}
    for each in sets:
        if each.publish is None or not each.publish.to:
            continue
        other = first.setdefault(each.publish.index_place, each.name)
        if other != each.name:
            line = each.expansion.document.line("publish", "to")
            message = (
                f"{other} is published there too, under the same index: write index: "
                f"{each.name}.json here, or give it another place"
            )
            problems.add(each.path, line, "publish.to", message)


def load_prompt_set(path: Path, catalog: Catalog | None = None) -> PromptSet:
    """The prompt set of one file, named after it; a hyphen becomes an underscore.

    Its models are those of ``catalog``, or else of the file's folder and the built-in ones.

    Raises:
        ConfigError: With everything that is wrong with the file and its tables.
    """
    return _Siblings(path.parent, catalog or Catalog.of_configs(path.parent)).load(path)


def build_prompt_set(
    name: str,
    document: Mapping[str, Any] | Document,
    *,
    path: str = "",
    folder: Path | None = None,
    catalog: Catalog | None = None,
    find_set: FindSet | None = None,
) -> PromptSet:
    """The prompt set of a mapping, such as a component's attributes in another project.

    Values may be text, as a file gives it, or numbers; a ``Document`` gives messages their lines.
    Tables are looked for from ``folder`` on, else from the folder of ``path``, else from the
    working folder. The sets whose pictures it is made for come from ``find_set``, else from the
    files of that folder.

    Raises:
        ConfigError: With everything that is wrong.
    """
    source = document if isinstance(document, Document) else Document(path or name, document)
    path = path or (source.path if source is document else "")
    data = json.dumps(source.value, default=str).encode()
    near = folder or Path(path).parent
    known = catalog or Catalog.of_configs(near)
    place = _Place(path, near, known, find_set or _Siblings(near, known).find)
    return _assemble(name, source, data, place)


def read_section(path: Path, section: YamlSection) -> Document:
    """A section of a YAML file, read as if it were a prompt set's file of its own.

    Raises:
        ConfigError: With everything that is wrong with that section's YAML.
    """
    return parse_yaml(_read(path), str(path), section)


class _Siblings:
    """Loads the prompt sets of one folder, each once, and finds them by name for each other."""

    def __init__(self, folder: Path, catalog: Catalog, cache: LoadCache = OFF) -> None:
        self._folder = folder
        self._catalog = catalog
        self._cache = cache
        self._contracts = b"" if cache is OFF else contracts_digest(catalog)
        self._loaded: dict[Path, PromptSet | ConfigError] = {}
        self._under_way: list[Path] = []

    def load(self, path: Path) -> PromptSet:
        """The prompt set of a file.

        Raises:
            ConfigError: With everything that is wrong with it.
        """
        if path not in self._loaded:
            self._under_way.append(path)
            try:
                self._loaded[path] = self._read(path)
            except ConfigError as error:
                self._loaded[path] = error
            finally:
                self._under_way.pop()
        loaded = self._loaded[path]
        if isinstance(loaded, ConfigError):
            raise loaded
        return loaded

    def find(self, name: str) -> PromptSet:
        """The prompt set of that name, which another one is made for.

        Raises:
            LookupError: No such set, one with mistakes of its own, or a circle; says which.
        """
        by_name = {path.stem.replace("-", "_"): path for path in _yaml_files(self._folder)}
        path = by_name.get(name)
        if path is None:
            near = difflib.get_close_matches(name, by_name, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(by_name)}"
            raise LookupError(f"no prompt set {name} in {self._folder}; {hint}")
        if path in self._under_way:
            circle = [each.stem for each in self._under_way[self._under_way.index(path) :]]
            raise LookupError(f"goes in a circle: {' -> '.join([*circle, path.stem])}")
        try:
            return self.load(path)
        except ConfigError as error:
            first = error.problems[0]
            raise LookupError(f"{name} has mistakes of its own, such as {first}") from error

    def _read(self, path: Path) -> PromptSet:
        data = _read(path)
        place = _Place(str(path), path.parent, self._catalog, self.find)
        if self._cache is OFF:
            return _assemble(path.stem, parse_yaml(data, str(path)), data, place)
        key = record_key(path, data, self._contracts)
        if (known := self._cache.find(path, key)) is not None:
            return _restore(path.stem, data, place, *known)
        if (record := _read_lines(path.stem, data, place, key)) is not None:
            self._cache.save(path, record)
            return _restore(path.stem, data, place, record, ())
        made = _assemble(path.stem, parse_yaml(data, str(path)), data, place)
        if _can_be_remembered(made):
            self._cache.save(path, _record_of(made, key))
        return made


def _yaml_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in {".yaml", ".yml"})
    except OSError as error:
        message = f"can't be read: {error.strerror}"
        raise ConfigError([Problem(str(folder), 0, "", message)]) from error


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would be waited for
            message = "is a pipe, a socket or a device; a prompt set is a file"
            raise ConfigError([Problem(str(path), 0, "", message)])
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        message = f"no such file, seen from {Path.cwd()}"
    except IsADirectoryError:
        message = "is a folder; a prompt set is a file"
    except OSError as error:
        message = f"can't be read: {error.strerror}"
    raise ConfigError([Problem(str(path), 0, "", message)])


class _Place(NamedTuple):
    """Where a prompt set comes from, and the models that it can name."""

    path: str
    folder: Path
    catalog: Catalog
    find_set: FindSet


def _assemble(name: str, document: Document, data: bytes, place: _Place) -> PromptSet:
    """The prompt set of a document; ``data`` is what its checksum is taken of."""
    problems = Problems()
    problems.add_all(document.duplicates)
    try:
        name = checked_set_name(name)
    except ValueError as error:
        problems.add(document.path, 0, "", str(error))
    schema = _validate(document, problems)
    own = _find_model(document, place.catalog, problems)
    sources = find_sources(document, place.find_set, problems)
    follows = find_followed(document, schema, sources, problems)
    partitions = choose_partitions(schema, follows)
    day = _first_day(document, partitions)
    entries = read_entries(
        document,
        own,
        place.folder,
        catalog=place.catalog,
        sources=sources,
        by_day=bool(day),
        problems=problems,
    )
    entries = with_published_columns(entries, schema)
    model = own or next((entry.models[0] for entry in entries), TYPED_MODELS[0])
    version = _read_version(document, model, problems)
    expansion = Expansion(document, entries, place.folder)
    is_small = all(_is_small(entry) for entry in entries)
    report = check(
        expansion,
        day=day,
        is_selected=None,
        sources=sources_to_check(sources, follows, day),
        max_rows=None if is_small else MAX_BY_PROMPT + 1,
        max_names=MAX_BY_PROMPT,
    )
    problems.add_all(report.problems.as_tuple())
    choice = read_choice(document, schema, place.folder, problems)
    facts = Facts(entries, report.count, report.outputs, by_day=bool(day))
    publication = read_publication(document, schema, choice, facts, problems)
    if schema is None:
        raise ConfigError(problems.as_tuple())
    is_by_prompt = isinstance(partitions, ByPrompt)
    if is_by_prompt and follows is None:
        _refuse_too_many(document, report, problems, is_small=is_small)
    automation = _choose_automation(document, schema, problems)
    _refuse_budget_without_price(document, schema, entries, problems)
    problems.raise_if_any()
    return PromptSet(
        name=name,
        path=place.path,
        config_sha256=_config_sha256(data, expansion.tables),
        description=schema.description,
        model=model,
        version=version,
        owners=tuple(schema.owners),
        tags=schema.tags,
        partitions=partitions,
        schedule=schema.schedule,
        budget=schema.budget,
        automation=automation,
        warnings=report.warnings.as_tuple(),
        prompt_names=partition_names(report, follows) if is_by_prompt else (),
        is_checked=is_small,
        expansion=expansion,
        sources=sources,
        follows=follows,
        choice=choice,
        publish=publication,
    )


def _read_lines(name: str, data: bytes, place: _Place, key: str) -> Record | None:
    """The record of a file whose prompts are a line each, and right; None where it isn't that."""
    try:
        found = find_prompt_lines(decode_text(data, place.path))
        if found is None:
            return None
        document = parse_yaml(found.sample.encode(), place.path)
        if not found.is_sample(document):
            return None
        made = _assemble(name, document, data, place)
    except ConfigError:
        return None  # all that is wrong is found, and told, by reading the whole file
    is_by_prompt = isinstance(made.partitions, ByPrompt)
    if (
        not _can_be_remembered(made)
        or made.warnings
        or any(entry.templates for entry in made.expansion.entries)
        or (is_by_prompt and len(found.texts) > MAX_BY_PROMPT)
        or not found.are_right(made.model)
    ):
        return None
    record = _record_of(made, key)
    return record.model_copy(update={"names": list(found.texts)}) if is_by_prompt else record


def _can_be_remembered(made: PromptSet) -> bool:
    """Whether nothing but its file, its tables and the contracts decided what a set came to."""
    if made.sources or made.publish is not None or made.choice != Choice():
        return False
    return not any(
        model.pictures.keys() & {*entry.constants, *entry.templates}
        for entry in made.expansion.entries
        for model in entry.models
    )


def _record_of(made: PromptSet, key: str) -> Record:
    document = made.expansion.document
    return Record(
        key=key,
        head={name: value for name, value in document.value.items() if name not in _INPUTS},
        lines={name: document.line(name) for name in document.value},
        model=made.model.name,
        names=list(made.prompt_names),
        warnings=[(each.path, each.line, each.key, each.message) for each in made.warnings],
        is_checked=made.is_checked,
        tables=[table_record(each) for each in made.expansion.tables],
    )


def _restore(
    name: str, data: bytes, place: _Place, record: Record, tables: tuple[Table, ...]
) -> PromptSet:
    """The prompt set of a file that came to this record, as ``_assemble`` makes it."""
    document, problems = Document(place.path, record.head), Problems()
    schema = PromptSetSchema.model_validate({**record.head, "prompts": {"not-read": ""}})
    model = place.catalog.find(record.model)
    partitions = choose_partitions(schema, None)

    def read() -> Expansion:
        whole = parse_yaml(data, place.path)
        own, found = _find_model(whole, place.catalog, problems), Problems()
        is_by_day = bool(_first_day(whole, partitions))
        entries = read_entries(
            whole, own, place.folder, catalog=place.catalog, by_day=is_by_day, problems=found
        )
        found.raise_if_any()
        expansion = Expansion(whole, entries, place.folder)
        for before, now in zip(tables, expansion.tables, strict=True):
            if before.sha256 != now.sha256:
                message = f"{now.path} changed since it was loaded: load it again"
                raise ConfigError([Problem(place.path, 0, "prompts", message)])
        return expansion

    return PromptSet(
        name=checked_set_name(name),
        path=place.path,
        config_sha256=_config_sha256(data, tables),
        description=schema.description,
        model=model,
        version=_read_version(document, model, problems),
        owners=tuple(schema.owners),
        tags=schema.tags,
        partitions=partitions,
        schedule=schema.schedule,
        budget=schema.budget,
        automation=_choose_automation(document, schema, problems),
        warnings=record.problems,
        prompt_names=tuple(record.names),
        is_checked=record.is_checked,
        expansion=DeferredExpansion(place.folder, tables, record.lines, read),
    )


def _validate(document: Document, problems: Problems) -> PromptSetSchema | None:
    def add(keys: tuple[str, ...], message: str) -> None:
        problems.add(document.path, document.line(*keys), ".".join(keys), message)

    return validate(PromptSetSchema, dict(document.value), add)


def _find_model(document: Document, catalog: Catalog, problems: Problems) -> Model | None:
    """The model named, if any; for an unknown one another, to check the rest with."""
    name = document.value.get("model")
    if name is None:
        return None
    if isinstance(name, str):
        try:
            return catalog.find(name)
        except KeyError as error:
            problems.add(document.path, document.line("model"), "model", str(error.args[0]))
        except ConfigError as error:
            problems.add_all(error.problems)
    return TYPED_MODELS[0]


def _refuse_budget_without_price(
    document: Document, schema: PromptSetSchema, entries: tuple[Entry, ...], problems: Problems
) -> None:
    if schema.budget == Budget():
        return
    for model in dict.fromkeys(model for entry in entries for model in entry.models):
        if not model.price.is_known:
            message = (
                f"can't be kept: the price of {model.name} is unknown. Write price: in its file"
                " under models/, or leave the budget out"
            )
            problems.add(document.path, document.line("budget"), "budget", message)


def _read_version(document: Document, model: Model, problems: Problems) -> str:
    version = document.value.get("version")
    if isinstance(version, str):
        try:
            return checked_version(version, model.name)
        except ValueError as error:
            problems.add(document.path, document.line("version"), "version", str(error))
    return model.version


def _first_day(document: Document, cut: ByPrompt | ByShard | ByDay) -> str:
    """A day to try ``{date}`` with; empty where partitions aren't days."""
    if isinstance(cut, ByDay):
        return cut.start.isoformat()
    # The file may be wrong elsewhere: any day does to check the prompts with.
    partitions = document.value.get("partitions")
    is_by_day = isinstance(partitions, dict) and partitions.get("by") == "day"
    return "2000-01-01" if is_by_day else ""


def _is_small(entry: Entry) -> bool:
    return entry.table is None or entry.table.size <= MAX_TABLE_BYTES


def _refuse_too_many(
    document: Document, report: ExpansionReport, problems: Problems, *, is_small: bool
) -> None:
    if report.count > MAX_BY_PROMPT:
        many = f"{report.count:,}" if is_small else f"more than {MAX_BY_PROMPT:,}"
        shards = -(-report.count // SHARD_PROMPTS) if is_small else 100
        message = (
            f"{many} prompts are too many for a partition each (at most {MAX_BY_PROMPT:,}): "
            f"write partitions: {{by: shard, count: {shards}}}"
        )
        problems.add(document.path, document.line("partitions"), "partitions", message)


def _choose_automation(document: Document, schema: PromptSetSchema, problems: Problems) -> str:
    automation = schema.automation or ("on_schedule" if schema.schedule else "none")
    message = ""
    if automation == "on_schedule" and schema.schedule is None:
        message = "on_schedule needs a schedule: add schedule: {cron: ...}"
    elif automation == "on_change" and schema.schedule is not None:
        message = "on_change and a schedule exclude each other: leave one out"
    if message:
        problems.add(document.path, document.line("automation"), "automation", message)
    return automation


def _config_sha256(data: bytes, tables: tuple[Table, ...]) -> str:
    digest = hashlib.sha256(data)
    for table in tables:
        digest.update(table.sha256.encode())
    return digest.hexdigest()
