"""The form of a prompt set's file: every key, its type, its limits and its description.

The JSON Schema that editors use is made from these classes, so a description here is what an
author reads while typing.
"""

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from flux_pipeline.models.base import Number, Text, WholeNumber

MAX_TAKES = 1_000
MAX_SHARDS = 10_000
_TAG_KEY = re.compile(r"(?:[A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}")
_TAG_VALUE = re.compile(r"[A-Za-z0-9_.-]{0,63}")
_OWNER = re.compile(r"team:[^\s:][^\n]*|[^@\s]+@[^@\s]+\.[^@\s.]+")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NICKNAMES = frozenset({"@hourly", "@daily", "@weekly", "@monthly", "@yearly"})
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")

_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _DAYS),
)

_ITEM = re.compile(r"(?:\*|([a-z0-9]+)(?:-([a-z0-9]+))?)(?:/([0-9]{1,3}))?")
_LONGEST = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
MAX_NAME_CHARACTERS = 120
MAX_KEY_CHARACTERS = 60
"""Of a name that an author gives; the rest is left for what a table and a matrix add."""
_PROMPT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_SET_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")
_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_OTHERS = re.compile(r"[^a-z0-9]+")
_DIGITS = re.compile(r"[0-9a-f]{64}")


def _plain_text(value: Any) -> Any:
    # A caller's mapping may hold numbers where a file always gives text.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


def _checked_owner(value: str) -> str:
    if not _OWNER.fullmatch(value):
        raise ValueError("an owner is an email address or team:<name>")
    return value


def _checked_tag_key(value: str) -> str:
    if not _TAG_KEY.fullmatch(value) or value.startswith("dagster/"):
        raise ValueError(
            "a tag's key is made of letters, digits, _, - and ., at most 63 of them, with at "
            "most one / behind a namespace other than dagster"
        )
    return value


def _checked_tag_value(value: str) -> str:
    if not _TAG_VALUE.fullmatch(value):
        raise ValueError("a tag's value is made of letters, digits, _, - and ., at most 63 of them")
    return value


def _checked_timezone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            "is no time zone; write it as Asia/Shanghai, Europe/Berlin or UTC"
        ) from error
    return value


def parse_day(value: str) -> date:
    """The date of ``YYYY-MM-DD``.

    Raises:
        ValueError: another form, or no day of the calendar.
    """
    if not _DAY.fullmatch(value):
        raise ValueError("a day is written YYYY-MM-DD")
    try:
        return date.fromisoformat(value)
    except ValueError as error:
        raise ValueError("is no day of the calendar; a day is written YYYY-MM-DD") from error


def _day_from_text(value: Any) -> Any:
    return parse_day(value) if isinstance(value, str) else value


PlainText: TypeAlias = Annotated[Text, BeforeValidator(_plain_text)]
Timezone: TypeAlias = Annotated[Text, AfterValidator(_checked_timezone)]


class Form(BaseModel):
    """Base: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class _Cut(Form):
    """What every way to cut a prompt set has."""

    per_run: WholeNumber | None = Field(
        default=None,
        ge=1,
        description="How many partitions one run takes. What asks for more is cut into several"
        " runs, which several workers share. Left out: 100 shards; any number of prompts or days.",
    )


class ByPrompt(_Cut):
    """A partition for every prompt, named after it: the natural one in the UI, up to 1,000."""

    by: Literal["prompt"] = Field(description="A partition for every prompt.")


class ByShard(_Cut):
    """A fixed number of partitions; a prompt's name decides where it goes, whatever is added."""

    by: Literal["shard"] = Field(description="A fixed number of partitions, filled by hash.")
    count: WholeNumber = Field(
        ge=1,
        le=MAX_SHARDS,
        description="How many. Some hundred images a shard are a good size. Changing it moves "
        "prompts to other shards, and pays for none of them again.",
    )


class ByDay(_Cut):
    """A partition for every day: the same prompts with new seeds, and ``{date}`` in them."""

    by: Literal["day"] = Field(description="A partition for every day, with seeds of its own.")
    start: Annotated[date, BeforeValidator(_day_from_text), Field(strict=True)] = Field(
        description="The first day, YYYY-MM-DD."
    )
    timezone: Timezone = Field(default="UTC", description="Whose midnight ends a day.")


Partitions: TypeAlias = Annotated[ByPrompt | ByShard | ByDay, Field(discriminator="by")]


def checked_cron(line: str) -> str:
    """The line as given, if it is five valid fields or a nickname such as ``@daily``.

    Raises:
        ValueError: names the field and what is allowed in it.
    """
    if line in _NICKNAMES:
        return line
    fields = line.lower().split()
    if len(fields) != len(_FIELDS):
        raise ValueError(
            f"has {len(fields)} fields; a cron line has five (minute hour day month weekday), "
            'such as "0 6 * * *"'
        )
    values = [_values(text, *field) for text, field in zip(fields, _FIELDS, strict=True)]
    days, months = values[2], values[3]
    if all(min(days) > _LONGEST.get(month, 31) for month in months):
        raise ValueError(f"never happens: no such month has a day {min(days)}")
    return line


class Schedule(Form):
    """When the whole set is looked through; what exists already costs nothing."""

    cron: Annotated[Text, AfterValidator(checked_cron)] = Field(
        description='Five fields (minute hour day month weekday), such as "0 6 * * *".'
    )
    timezone: Timezone = Field(default="UTC", description="The time zone that cron is meant in.")


class Budget(Form):
    """What may be spent; a run stops before the first request that would exceed it."""

    usd_per_run: Number | None = Field(default=None, ge=0, description="USD in one run.")
    usd_per_month: Number | None = Field(
        default=None, ge=0, description="USD in one calendar month (UTC), over all runs."
    )


class PromptForm(Form):
    """One prompt's own keys; beside them stand the model's inputs."""

    prompt: PlainText = Field(
        description="The text, with {placeholders} for matrix variables, table columns and, with "
        "partitions by day, {date}. A brace is written {{ or }}."
    )
    matrix: dict[str, Annotated[list[PlainText], Field(min_length=1)]] = Field(
        default_factory=dict,
        description="Variables and their values: a prompt for every combination.",
    )
    takes: WholeNumber = Field(
        default=1, ge=1, le=MAX_TAKES, description="Predictions of each prompt, each with a seed."
    )
    table: Text | None = Field(
        default=None,
        description="A csv, tsv, jsonl or parquet file in this file's folder or below: a prompt "
        "for every row, its columns as {placeholders}.",
    )
    key: Text | None = Field(
        default=None,
        description="The column that names a row. Without it rows are numbered, and a row put in "
        "between renames, and pays for, all that follow.",
    )


class PromptSetForm(Form):
    """A prompt set: what shall be made, how it is cut into partitions, when, and for how much."""

    description: Text = Field(default="", description="What the set is for, shown in the UI.")
    model: Text = Field(description="The model, owner/name.")
    version: Text | None = Field(
        default=None,
        description="Overrides the version that the model is pinned to: 64 hex digits, or "
        "owner/name: and 64 hex digits.",
    )
    owners: list[Annotated[Text, AfterValidator(_checked_owner)]] = Field(
        default_factory=list, description="Email addresses, or team:<name>."
    )
    tags: dict[
        Annotated[Text, AfterValidator(_checked_tag_key)],
        Annotated[PlainText, AfterValidator(_checked_tag_value)],
    ] = Field(default_factory=dict, description="Tags of the assets.")
    defaults: Mapping[str, Any] = Field(
        default_factory=dict,
        description="Inputs of the model for every prompt that doesn't set them itself.",
    )
    prompts: Mapping[str, Any] = Field(
        min_length=1,
        description="The prompts by name (a-z, 0-9, _ and -): a text, or a mapping.",
    )
    partitions: Partitions = Field(
        default=ByPrompt(by="prompt"), description="How the set is cut; by prompt if left out."
    )
    schedule: Schedule | None = Field(default=None, description="When it runs by itself.")
    budget: Budget = Field(default=Budget(), description="Limits of what it may cost.")
    automation: Literal["on_change", "on_schedule", "none"] | None = Field(
        default=None,
        description="What starts it without a person: on_change (edited or missing partitions), "
        "on_schedule, or none. Left out: on_schedule where there is a schedule, else none.",
    )


def _values(text: str, name: str, low: int, high: int, names: tuple[str, ...]) -> set[int]:
    values: set[int] = set()
    for item in text.split(","):
        found = _ITEM.fullmatch(item)
        if found is None:
            raise ValueError(f"{name}: {item[:20]} is not allowed ({low} to {high}, *, a-b, */n)")
        first, last, step = found[1], found[2], int(found[3] or 1)
        start = low if first is None else _number(first, name, low, high, names)
        open_end = first is None or (last is None and found[3] is not None)
        end = high if open_end else _number(last or first, name, low, high, names)
        if end < start or step < 1:
            raise ValueError(f"{name}: {item[:20]} is not allowed: it ends before it starts")
        values.update(range(start, end + 1, step))
    return values


def _number(text: str, name: str, low: int, high: int, names: tuple[str, ...]) -> int:
    if text in names:
        return names.index(text) + low
    if text.isdigit() and low <= int(text) <= high:
        return int(text)
    raise ValueError(f"{name}: {text[:20]} is not allowed ({low} to {high})")


def checked_set_name(stem: str) -> str:
    """The name of the prompt set in a file of this stem; a hyphen becomes an underscore.

    Raises:
        ValueError: other characters than a-z, 0-9, hyphen and underscore; says what to write.
    """
    name = stem.replace("-", "_")
    if _SET_NAME.fullmatch(name) and len(name) <= MAX_KEY_CHARACTERS:
        return name
    hint = slug(stem).replace("-", "_")
    raise ValueError(
        f"the file's name names the prompt set and its assets: only a-z, 0-9, _ and - are "
        f"allowed, and a letter or digit first; rename it, perhaps to {hint}"
    )


def checked_prompt_name(key: str) -> str:
    """The key of a prompt, if it may be a name.

    Raises:
        ValueError: other characters than a-z, 0-9, hyphen and underscore, or too many.
    """
    if _PROMPT_NAME.fullmatch(key) and len(key) <= MAX_KEY_CHARACTERS:
        return key
    raise ValueError(
        "a prompt's name is made of a-z, 0-9, _ and -, starts with a letter or digit and has at "
        f"most {MAX_KEY_CHARACTERS} characters; perhaps {slug(key)}"
    )


def slug(text: str) -> str:
    """A name part for any text: stable, never empty, and equal only for texts that read alike.

    ``Crème Brûlée 2`` gives ``creme-brulee-2``; ``红`` gives ``x-`` and eight hex digits; ``AB-1``
    and ``ab 1`` both give ``ab-1``, and the caller finds such twins.
    """
    if _SLUG.fullmatch(text) and len(text) <= MAX_KEY_CHARACTERS:
        return text
    plain, is_lossy = text, False
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", text)
        plain = "".join(char for char in decomposed if not unicodedata.combining(char))
        is_lossy = any(char.isalnum() and not char.isascii() for char in plain)
    words = _OTHERS.sub("-", plain.lower()).strip("-")
    if is_lossy or not words or len(words) > MAX_KEY_CHARACTERS:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        return f"{words[:MAX_KEY_CHARACTERS].strip('-') or 'x'}-{digest}"
    return words


def join_name(*parts: str) -> str:
    """The parts with hyphens between them; a name that grows too long ends in its own hash."""
    name = "-".join(parts)
    if len(name) <= MAX_NAME_CHARACTERS:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{name[: MAX_NAME_CHARACTERS - 13].rstrip('-')}-{digest}"


def checked_version(value: str, model_name: str) -> str:
    """The 64 hex digits of a version given alone or behind the model's name.

    Raises:
        ValueError: not 64 digits, or another model's.
    """
    name, colon, digits = value.rpartition(":")
    if colon and name != model_name:
        raise ValueError(f"is a version of another model than {model_name}")
    if "/" in digits:
        raise ValueError("names a model and no version: add a colon and its 64 hex digits")
    if not _DIGITS.fullmatch(digits):
        raise ValueError(
            f"a version is 64 hex digits (0-9, a-f), alone or behind {model_name}:, "
            f"not {len(digits)} characters"
        )
    return digits
