"""The settings of one process, read once from environment variables.

``Settings.from_environment`` is pure: it is given the variables, and finds every mistake at once.
Only the definitions, here or in another project, and the command line hand it the real environment.

    FLUX_CONFIGS             folder of prompt sets (configs)
    FLUX_PROVIDER            emulator, replicate, anyapi, or a base URL with its prefix (emulator)
    FLUX_API_KEY             the provider's key; REPLICATE_API_TOKEN is accepted too
    FLUX_STORE               file:<folder> or s3://<bucket>/<prefix> (file:./data/store)
    FLUX_LEDGER              a SQLAlchemy URL (sqlite:///./data/ledger.db)
    FLUX_STATE               folder of the embedded emulator's state (data/emulator)
    FLUX_RATE                creates a minute, over all workers (600)
    FLUX_CONCURRENCY         predictions in flight in one run (64)
    FLUX_UNKNOWN             resend or hold what may have been paid and can't be proven (resend)
    FLUX_SETTLE_SECONDS      how long a lost answer is looked for before it counts as absent (30)
    FLUX_OUTPUT_HOSTS        hosts that pictures are fetched from, besides the provider's own
                             (replicate.delivery, *.replicate.delivery; * for any public host)
    FLUX_BUDGET_USD_PER_DAY  at most this much a day, over all prompt sets (no limit)
    FLUX_ALERT_URL           webhooks that failures are told to, several with commas (none)
    FLUX_ALERT_FORMAT        json, slack, dingtalk or feishu (by the webhook's host)
    FLUX_ALERT_SECRET        what DingTalk and Feishu sign with; one, or one for each webhook
    FLUX_UI_URL              where Dagster's web interface is, for links (http://127.0.0.1:3000)
    FLUX_EMBED_PROMPT        yes or no: whether image files hold their prompt (yes)
    FLUX_AIGC_PRODUCER       the producer in the TC260 label of image files (no such label)
    FLUX_C2PA_CERT           PEM file of certificates: image files are signed (they are not)
    FLUX_C2PA_KEY            PEM file of the certificate's key, or module:function that signs
    FLUX_C2PA_TSA            URL of a timestamp authority (none)
"""

import difflib
import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flux_pipeline.errors import ConfigError, Problem

EMULATOR = "emulator"
PROVIDERS = (EMULATOR, "replicate", "anyapi")
UNKNOWN_POLICIES = ("resend", "hold")
ALERT_FORMATS = ("json", "slack", "dingtalk", "feishu")
ALERT_VARIABLES = ("FLUX_ALERT_URL", "FLUX_ALERT_SECRET")
"""Both hold secrets."""
KEY_VARIABLES = ("FLUX_API_KEY", "REPLICATE_API_TOKEN")
LEDGER_VARIABLE = "FLUX_LEDGER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one process works with. Paths are relative to the folder it was started in."""

    configs: Path = Path("configs")
    provider: str = EMULATOR
    """A name of ``PROVIDERS``, or an http(s) base URL without a trailing slash."""
    api_key: str = field(default="", repr=False)
    key_variable: str = KEY_VARIABLES[0]
    """The variable that holds the key, so that it can be named and passed on without its value."""
    store: str = "file:./data/store"
    ledger: str = field(default="sqlite:///./data/ledger.db", repr=False)
    """May hold a password."""
    ledger_given: bool = False
    """Whether the environment holds it; then it is passed on by name."""
    state: Path = Path("data/emulator")
    rate: float = 600.0
    """Creates a minute."""
    concurrency: int = 64
    unknown: str = "resend"
    settle_seconds: float = 30.0
    output_hosts: tuple[str, ...] = ("replicate.delivery", "*.replicate.delivery")
    budget_usd_per_day: float | None = None
    embed_prompt: str = "yes"
    aigc_producer: str = ""
    c2pa_cert: str = ""
    c2pa_key: str = ""
    """A path or ``module:function``, never the key."""
    c2pa_tsa: str = ""
    alert_url: tuple[str, ...] = field(default=(), repr=False)
    """Whoever knows a webhook's address can write to it: a secret."""
    alert_format: str = ""
    alert_secret: tuple[str, ...] = field(default=(), repr=False)
    ui_url: str = "http://127.0.0.1:3000"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Settings":
        """Read the variables above; an empty one counts as not set.

        Variables of other names are left alone, unless one is so close to ours that it must be a
        slip: a budget that is silently not read would cost money.

        Raises:
            ConfigError: With every mistake, each naming its variable and never a secret's value.
        """
        problems: list[Problem] = []
        given: dict[str, Any] = {}
        for variable, (name, parse) in _VARIABLES.items():
            text = environ.get(variable, "").strip()
            if not text:
                continue
            try:
                given[name] = parse(text)
            except ValueError as mistake:
                problems.append(Problem("environment", 0, variable, str(mistake)))
        secrets, webhooks = len(given.get("alert_secret", ())), len(given.get("alert_url", ()))
        if secrets not in (0, 1, webhooks):
            message = f"holds {secrets} secrets for {webhooks} webhooks: one, or one for each"
            problems.append(Problem("environment", 0, "FLUX_ALERT_SECRET", message))
        problems.extend(_slips(environ))
        key_variable = next((v for v in KEY_VARIABLES if environ.get(v, "").strip()), None)
        if key_variable is not None:
            given["key_variable"] = key_variable
            try:
                given["api_key"] = parse_key(environ[key_variable])
            except ValueError as mistake:
                problems.append(Problem("environment", 0, key_variable, str(mistake)))
        if problems:
            raise ConfigError(problems)
        return cls(ledger_given="ledger" in given, **given)


def missing_key(settings: Settings) -> Problem | None:
    """What is missing before anything can be sent: the key of any provider but the emulator."""
    if settings.provider == EMULATOR or settings.api_key:
        return None
    names = " or ".join(KEY_VARIABLES)
    message = f"is not set, and {settings.provider} needs a key: export {names}"
    return Problem("environment", 0, KEY_VARIABLES[0], message)


def parse_key(text: str) -> str:
    """Return the key without the blanks and the ``Bearer`` that copying adds.

    Raises:
        ValueError: For a placeholder and for what no HTTP header can hold; never with the value.
    """
    key = text.strip().removeprefix("Bearer ").strip()
    if not key.isascii() or not key.isprintable() or set(key) & set(" \"'"):
        raise ValueError("holds blanks, quotes or characters that no key has: copy the key alone")
    if key.upper().strip("<>[]{}").replace("-", "_") in _PLACEHOLDERS:
        raise ValueError("holds a placeholder: put the provider's key here")
    return key


_PLACEHOLDERS = frozenset(
    {"YOUR_API_KEY", "YOUR_KEY", "YOUR_TOKEN", "API_KEY", "CHANGEME", "CHANGE_ME", "XXX"}
)


def _slips(environ: Mapping[str, str]) -> list[Problem]:
    known = [*_VARIABLES, *KEY_VARIABLES]
    return [
        Problem("environment", 0, variable, f"is not known; did you mean {near[0]}?")
        for variable in environ
        if variable.startswith("FLUX_")
        and variable not in known
        and (near := difflib.get_close_matches(variable, known, n=1, cutoff=0.8))
    ]


def _one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is not allowed ({' or '.join(words)})")
        return text

    return parse


def _number(lowest: float, highest: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not lowest <= number <= highest:
            raise ValueError(f"{text!r} is not allowed ({lowest:g} to {highest:g})")
        return number

    return parse


def _whole(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and lowest <= int(text[:9]) <= highest):
            raise ValueError(f"{text!r} is not allowed (a whole number, {lowest} to {highest})")
        return int(text)

    return parse


def _provider(text: str) -> str:
    if text in PROVIDERS:
        return text
    url = urlsplit(text)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError(f"is neither {', '.join(PROVIDERS)} nor an http(s) base URL")
    if url.username or url.password or url.query or url.fragment:
        raise ValueError("is a URL with a user, a query or a fragment: give the base alone")
    if url.scheme == "http" and not _is_loopback(url.hostname):
        raise ValueError("would send the key in clear: use https, http only on this machine")
    return text.rstrip("/")


def _webhooks(text: str) -> tuple[str, ...]:
    addresses = tuple(address.strip() for address in text.split(",") if address.strip())
    for url in map(urlsplit, addresses):  # no message holds the address: it is a secret
        if not url.hostname or url.scheme not in {"http", "https"} or url.username:
            raise ValueError("is no https URL without a user (several: with commas)")
        if url.scheme == "http" and not _is_loopback(url.hostname):
            raise ValueError("would go in clear: use https, http only on this machine")
    return addresses


def _page(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in {"http", "https"} or not url.hostname or url.username or url.query:
        raise ValueError("is no http(s) address of a page, such as https://dagster.example")
    return text.rstrip("/")


def is_emulated(provider: str) -> bool:
    """Whether a provider is the embedded emulator, or one on this machine, which is none to pay."""
    return provider == EMULATOR or _is_loopback(urlsplit(provider).hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _store(text: str) -> str:
    if not text.startswith(("file:", "s3://")):
        raise ValueError("is no address of a store: give file:<folder> or s3://<bucket>/<prefix>")
    return text


def _hosts(text: str) -> tuple[str, ...]:
    hosts = tuple(host.strip().lower() for host in text.split(",") if host.strip())
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise ValueError(f"{host!r} is not a host, *.host or * (several: with commas)")
    return hosts


def _database_url(text: str) -> str:
    if "://" not in text:
        raise ValueError("is not a database URL such as sqlite:///./data/ledger.db")
    return text


def _key_place(text: str) -> str:
    if "-----" in text:
        raise ValueError("holds PEM itself: put it into a file and give its path")
    return text


def parse_authority(text: str) -> str:
    """Return the URL of a timestamp authority.

    Raises:
        ValueError: For anything but an http(s) URL, and for one that could hold a secret.
    """
    url = urlsplit(text)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("is not the http(s) URL of a timestamp authority")
    if url.username or url.password or url.query or url.fragment:
        raise ValueError("is a URL with a user, a query or a fragment: give host and path alone")
    return text


_HOST = re.compile(r"\*|(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?")

_VARIABLES: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "FLUX_CONFIGS": ("configs", Path),
    "FLUX_PROVIDER": ("provider", _provider),
    "FLUX_STORE": ("store", _store),
    LEDGER_VARIABLE: ("ledger", _database_url),
    "FLUX_STATE": ("state", Path),
    "FLUX_RATE": ("rate", _number(0.1, 1_000_000)),
    "FLUX_CONCURRENCY": ("concurrency", _whole(1, 4096)),
    "FLUX_UNKNOWN": ("unknown", _one_of(UNKNOWN_POLICIES)),
    "FLUX_SETTLE_SECONDS": ("settle_seconds", _number(0, 3600)),
    "FLUX_OUTPUT_HOSTS": ("output_hosts", _hosts),
    "FLUX_BUDGET_USD_PER_DAY": ("budget_usd_per_day", _number(0, 1_000_000)),
    "FLUX_EMBED_PROMPT": ("embed_prompt", _one_of(("yes", "no"))),
    "FLUX_AIGC_PRODUCER": ("aigc_producer", str),
    "FLUX_C2PA_CERT": ("c2pa_cert", _key_place),
    "FLUX_C2PA_KEY": ("c2pa_key", _key_place),
    "FLUX_C2PA_TSA": ("c2pa_tsa", parse_authority),
    "FLUX_ALERT_URL": ("alert_url", _webhooks),
    "FLUX_ALERT_FORMAT": ("alert_format", _one_of(ALERT_FORMATS)),
    "FLUX_ALERT_SECRET": ("alert_secret", lambda text: tuple(map(str.strip, text.split(",")))),
    "FLUX_UI_URL": ("ui_url", _page),
}
