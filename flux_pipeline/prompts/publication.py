"""Which pictures of a prompt set are published, where to, under which names and in which sizes.

Reads the keys ``choose``, ``undecided`` and ``publish`` of a prompt set, and checks before anything
is made what can be known without looking at a row: names that would surely collide or leave the
target, unknown placeholders, options of variants. Nothing here is part of a request: another
variant makes no picture anew.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from flux_pipeline.endpoint import store_folder
from flux_pipeline.errors import Problems
from flux_pipeline.prompts.alt_text import fill_alt_text
from flux_pipeline.prompts.expansion import DATE, Entry
from flux_pipeline.prompts.schema import (
    DEFAULT_NAME,
    PromptSetSchema,
    PublishSchema,
    VariantSchema,
)
from flux_pipeline.prompts.tables import find_format_mistake, open_table
from flux_pipeline.prompts.templates import Template, parse_template
from flux_pipeline.prompts.validation import validate
from flux_pipeline.prompts.yaml_document import Document
from flux_pipeline.request import Request
from flux_pipeline.text import quoted
from flux_pipeline.variant import FORMATS, VariantSpec, find_mistakes

ChoiceKind: TypeAlias = Literal["all", "first", "best", "file"]
Undecided: TypeAlias = Literal["hold", "first"]
WORDS = ("all", "first", "best")
"""What ``choose`` may be, beside a file's name."""
PICTURE_PLACEHOLDERS = (
    "set",
    "name",
    "prompt",
    "partition",
    "take",
    "output",
    "model",
    "variant",
    "format",
)
"""What every picture has a value of, see ``picture_values``; by day ``date`` too."""
MAX_PATH_BYTES = 900
"""Of a file's path below the target: S3's keys have 1,024, the target's prefix included."""
MAX_PART_BYTES = 240
"""Of a file's or folder's name: file systems have 255, and temporary names are a little longer."""
_VARIANT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_@-]{0,59}")
_NOT_IN_PATH = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"|?*\\\u2028\u2029\ud800-\udfff]')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\.|$)", re.IGNORECASE)
"""Devices of Windows, whatever ending follows: a file of such a name can't be made there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which of a prompt's pictures are published."""

    kind: ChoiceKind = "all"
    """``first``: the first output of the first take; ``best``: the technically best take."""
    path: Path | None = None
    """The file of picks, where ``kind`` is ``file``. It may not be there: nothing is picked yet."""
    undecided: Undecided = "hold"
    """What becomes of a prompt that nothing is chosen for: it waits, or its first is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """Where the chosen pictures of a set go, and what their files are."""

    to: str = ""
    """``file:PATH`` or ``s3://bucket/prefix``; empty: ``published/<set>`` in the store."""
    name: str
    """A template of each file's path below ``to``, see ``file_path``."""
    alt: str = ""
    """A template of the text that describes a picture; empty: the prompt itself."""
    variants: tuple[VariantSpec, ...]
    """At least one, each of another name, in the order of the file."""
    prune: bool = False
    """Whether files that were published and are no longer chosen are removed."""
    index: str = "index"
    """Path below ``to`` of the indexes, without their ending."""
    feed: Literal["json", "rss"] | None = None
    url: str = ""
    """The address at which ``to`` is seen in the web, without a slash at its end; or empty."""
    cache_control: str | None = None
    acl: str | None = None
    """A canned ACL of S3; None: none is sent."""
    storage_class: str | None = None
    """Of S3; None: the bucket's own."""

    @property
    def index_place(self) -> str:
        """Where the index lies, the same for two addresses of one place; not for opening it."""
        scheme, _, rest = self.to.partition(":")
        is_folder = scheme == "file"
        place = Path(store_folder(rest)).resolve() if is_folder else self.to.rstrip("/")
        return f"{place}/{self.index}"

    def file_path(self, own: Mapping[str, str], variables: Mapping[str, str]) -> str:
        """The path of a variant's file below ``to``, with ``/`` between folders.

        ``own`` are ``picture_values``, ``variables`` those of the prompt (``PromptSet.described``);
        of two of one name the picture's own counts. A slash and whatever no file may be called
        becomes a hyphen in a value.

        Raises:
            ValueError: It can't be a path below the target; says why.
        """
        values = {**variables, **own}
        template = parse_template(self.name)
        used = {name: _path_value(values.get(name, "")) for name in template.names}
        path = template.render(used)
        if mistake := find_path_mistake(path):
            blank = sorted(name for name, value in used.items() if not value)
            why = f"; blank: {', '.join(blank)}" if blank else ""
            raise ValueError(f"{quoted(path)} {mistake}{why}")
        return path

    def alt_text(self, own: Mapping[str, str], variables: Mapping[str, str]) -> str:
        """The text that describes a picture, on one line.

        It is filled in as the prompt is: of two values of one name, that of the table's column or
        the matrix counts, so that ``{name}`` is a product's name where a table has such a column.
        """
        if not self.alt:
            return " ".join(own.get("prompt", "").split())
        return fill_alt_text(self.alt, {**own, **variables})


def picture_values(
    request: Request, output: int, *, variant: VariantSpec | None = None, day: str = ""
) -> dict[str, str]:
    """What a picture's own placeholders stand for; ``output`` is 1-based, ``day`` its partition's.

    Without a variant, ``variant`` and ``format`` are empty: an alt text is the same for all.
    """
    source = request.source
    return {
        "set": source.prompt_set,
        "name": source.prompt_name,
        "prompt": str(request.input.get("prompt", "")),
        "partition": source.partition,
        "take": str(source.take),
        "output": str(output),
        "model": request.model,
        "variant": "" if variant is None else variant.name,
        "format": "" if variant is None else variant.extension,
        **({DATE: day} if day else {}),
    }


def find_path_mistake(path: str) -> str:
    """Why a text can't be the path of a published file, in words that follow it; else empty.

    It must stay below the target, and be a name on every file system and in every bucket.
    """
    found = _NOT_IN_PATH.search(path)
    parts = path.split("/")
    if found is not None:
        return f"holds {_describe_character(found[0])}, which no file can be called everywhere"
    if path.startswith("/"):
        return "is absolute: it must stay below publish.to, so begin with no /"
    if ".." in parts or "." in parts:
        return "must stay below publish.to: no folder may be . or .."
    if len(path.encode()) > MAX_PATH_BYTES:
        return f"has more than {MAX_PATH_BYTES} bytes"
    return next(filter(None, map(_find_part_mistake, parts)), "")


def _find_part_mistake(part: str) -> str:
    """Why a text can't be the name of a folder or a file, in words that follow its path."""
    if not part:
        return "has a folder or a file without a name"
    if part.startswith("."):
        return f"has a hidden part ({quoted(part)}): begin with another sign than ."
    if part != part.strip() or part.endswith("."):
        return f"has a part with a blank at an end, or a dot behind it: {quoted(part)}"
    if _RESERVED.match(part):
        return f"has a part that is a device on Windows ({quoted(part)}): call it otherwise"
    if len(part.encode()) > MAX_PART_BYTES:
        return f"has a part of more than {MAX_PART_BYTES} bytes"
    return ""


def _describe_character(char: str) -> str:
    return quoted(char) if char.isprintable() else f"the control character U+{ord(char):04X}"


def _path_value(value: str) -> str:
    """A value as it can stand within one part of a path; a picture's text is no folder."""
    return _NOT_IN_PATH.sub("-", value.replace("/", "-")).strip().strip(".")


def read_choice(
    document: Document, schema: PromptSetSchema | None, folder: Path, problems: Problems
) -> Choice:
    """The set's ``choose`` and ``undecided``. A file that is not there means: nothing picked yet.

    Of a file the header is read, and no row (``picks.read_picks`` does that). Without a schema,
    because the file has other mistakes, those of ``choose`` are told all the same.
    """
    word = str(document.value.get("choose", "all"))
    undecided = None if schema is None else schema.undecided
    if word in WORDS:
        if undecided is not None and word != "best":
            _add(problems, document, ("undecided",), f"means nothing where choose is {word}")
        return Choice(kind=cast("ChoiceKind", word), undecided=undecided or "hold")
    if find_format_mistake(word):
        forms = "all, first, best or a file such as picks/products.csv"
        _add(problems, document, ("choose",), f"must be {forms}, not {quoted(word)}")
        return Choice()
    path = folder / word
    if path.is_symlink() or path.exists() or not _is_below(path, folder):
        try:
            open_table(folder, word)
        except ValueError as error:
            _add(problems, document, ("choose",), f"{word}: {error}")
    return Choice(kind="file", path=path, undecided=undecided or "hold")


def _is_below(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def with_published_columns(
    entries: tuple[Entry, ...], schema: PromptSetSchema | None
) -> tuple[Entry, ...]:
    """The entries, such that their rows also hold the columns that names and alt texts use."""
    if schema is None or schema.publish is None:
        return entries
    names: set[str] = set()
    for text in (schema.publish.name, schema.publish.alt):
        with suppress(ValueError):  # what is wrong with it is told by read_publication
            names |= parse_template(text).names
    return tuple(
        replace(entry, published_columns=frozenset(names.intersection(entry.table.columns)))
        if entry.table is not None
        else entry
        for entry in entries
    )


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a set's prompts when it is loaded; of large tables, of the first rows."""

    entries: Sequence[Entry]
    prompts: int
    outputs: int
    """The most images that one request asks for."""
    by_day: bool

    @property
    def takes(self) -> int:
        """The most takes of a prompt."""
        return max((entry.takes for entry in self.entries), default=1)

    @property
    def variables(self) -> frozenset[str]:
        """The placeholders that tables, matrices and pictures of other sets fill in."""
        return frozenset(name for entry in self.entries for name in entry.variable_names)


def read_publication(
    document: Document,
    schema: PromptSetSchema | None,
    choice: Choice,
    facts: Facts,
    problems: Problems,
) -> Publication | None:
    """The set's ``publish``; None where it has none, or after ``problems`` got every mistake.

    Variants and templates are checked without a schema too, where the file has other mistakes.
    """
    raw = document.value.get("publish")
    if not isinstance(raw, Mapping):
        return None
    variants = _read_variants(document, raw.get("variants"), problems)
    allowed = {*PICTURE_PLACEHOLDERS, *facts.variables, *([DATE] if facts.by_day else [])}
    name = _read_template(document, "name", raw.get("name", DEFAULT_NAME), allowed, problems)
    of_all = allowed - {"variant", "format"}
    _read_template(document, "alt", raw.get("alt", ""), of_all, problems)
    if name is not None:
        for message in _find_name_mistakes(name, variants, choice, facts):
            _add(problems, document, ("publish", "name"), message)
    given = schema.publish if schema is not None else None
    if given is None:
        return None
    _check_target(document, given, problems)
    return Publication(
        to=given.to,
        name=given.name,
        alt=given.alt,
        variants=variants,
        prune=given.prune,
        index=_read_index(document, given.index, problems),
        feed=given.feed,
        url=given.url.rstrip("/"),
        cache_control=given.cache_control,
        acl=given.acl,
        storage_class=given.storage_class,
    )


def _read_variants(document: Document, given: Any, problems: Problems) -> tuple[VariantSpec, ...]:
    found: dict[str, VariantSpec] = {}
    if given is not None and not isinstance(given, Mapping):
        return ()  # the schema says so
    if not given:
        message = "is missing or empty: name at least one, such as web: {width: 1600}"
        _add(problems, document, ("publish", "variants"), message)
        return ()
    for key, body in given.items():
        spec = _read_variant(document, str(key), body, problems)
        other = found.setdefault(str(key).lower(), spec or VariantSpec(name=str(key)))
        if other.name != str(key):
            message = f"differs from {other.name} only in upper and lower case"
            _add(problems, document, ("publish", "variants", str(key)), message)
    return tuple(found.values())


def _read_variant(
    document: Document, name: str, body: Any, problems: Problems
) -> VariantSpec | None:
    place = ("publish", "variants", name)
    if not _VARIANT_NAME.fullmatch(name):
        message = "a variant's name is made of letters, digits, _, @ and -, at most 60 of them"
        _add(problems, document, place, message)
    if not isinstance(body, Mapping):
        message = f"must be a mapping such as {{width: 1600, format: webp}}, not {quoted(body)}"
        _add(problems, document, place, message)
        return None

    def add(keys: tuple[str, ...], message: str) -> None:
        _add(problems, document, (*place, *keys), message)

    read = validate(VariantSchema, body, add)
    if read is None:
        return None
    spec = VariantSpec(name=name, **read.options())
    for option, message in find_mistakes(spec):
        add((option,), message)
    return spec


def _check_target(document: Document, given: PublishSchema, problems: Problems) -> None:
    if not given.to.startswith("file:"):
        return
    for option in ("acl", "storage_class", "cache_control"):
        if getattr(given, option) is not None:
            _add(
                problems, document, ("publish", option), "is for s3://, and publish.to is a folder"
            )


def _read_template(
    document: Document, key: str, text: Any, allowed: Collection[str], problems: Problems
) -> Template | None:
    """The template; None after what is wrong with it was told."""
    if not isinstance(text, str):
        return None  # the schema says so
    try:
        template = parse_template(text)
    except ValueError as error:
        _add(problems, document, ("publish", key), str(error))
        return None
    unknown = sorted(template.names - set(allowed))
    for each in unknown:
        message = f"unknown placeholder {{{each}}}; allowed: {', '.join(sorted(allowed))}"
        _add(problems, document, ("publish", key), message)
    return None if unknown else template


def _read_index(document: Document, text: str, problems: Problems) -> str:
    path = text.removesuffix(".json")
    if "{" in path or (mistake := find_path_mistake(path)):
        what = "has no placeholders" if "{" in path else mistake
        _add(problems, document, ("publish", "index"), what)
    return path


def _find_name_mistakes(
    name: Template, variants: Sequence[VariantSpec], choice: Choice, facts: Facts
) -> list[str]:
    """What is surely wrong with the files' names, whatever the rows hold."""
    found = []
    sample = name.render(dict.fromkeys(name.names, "x"))
    if mistake := find_path_mistake(sample):
        found.append(mistake)
    found += _find_endings(name, variants)
    if same := _same_file(name, variants):
        both = f"{same[0].name} and {same[1].name}"
        other = " or {format}" if same[0].format != same[1].format else ""
        found.append(f"the variants {both} would be the same file: put {{variant}}{other} into it")
    varying = {"name", "prompt", "partition", *facts.variables}
    if facts.prompts > 1 and not name.names & varying:
        found.append("every prompt would be the same file: put {name} into it")
    if facts.by_day and not name.names & {DATE, "partition"}:
        found.append("every day would overwrite the day before: put {date} into it")
    if choice.kind == "all":
        if facts.takes > 1 and "take" not in name.names:
            found.append(
                f"the {facts.takes} takes of a prompt would be the same file: put {{take}} into it,"
                " or choose one of them (choose: first, best or a file of picks)"
            )
        if facts.outputs > 1 and "output" not in name.names:
            found.append(
                f"the {facts.outputs} images of a request would be the same file: put {{output}}"
                " into it, or choose one of them"
            )
    return found


def _same_file(name: Template, variants: Sequence[VariantSpec]) -> Sequence[VariantSpec]:
    """Two variants whose files would have one name; empty where there are none."""
    if "variant" in name.names:
        return ()
    seen: dict[str, VariantSpec] = {}
    for each in variants:
        key = each.extension if "format" in name.names else ""
        if key in seen:
            return seen[key], each
        seen[key] = each
    return ()


def _find_endings(name: Template, variants: Sequence[VariantSpec]) -> list[str]:
    """An ending in the template that is another format's than a variant has."""
    ending = name.parts[-1][0].rpartition(".")[2].lower()
    written = {"jpeg": "jpg"}.get(ending, ending)
    if written not in FORMATS or "." not in name.parts[-1][0]:
        return []
    return [
        f"ends with .{ending}, and variant {each.name} is {each.format}: write .{{format}}"
        for each in variants
        if each.format != written
    ][:1]


def _add(problems: Problems, document: Document, keys: tuple[str, ...], message: str) -> None:
    problems.add(document.path, document.line(*keys), ".".join(keys), message)
