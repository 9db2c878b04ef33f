"""Reads the settings of one process from its environment variables.

``Settings.from_environment`` gets the variables as a mapping, cleans each in the same way and
reports every mistake at once. Only the definitions and the command line read those of the process,
by ``Settings.of_process``; the command line has added those of the ``.env`` file before, as
``project`` reads it. Importing this module must stay cheap (no pydantic), because every
command does so before it knows what it has to do.

    FLUX_CONFIGS             folder of prompt sets (configs)
    FLUX_PROVIDER            emulator, replicate, anyapi, or a base URL with its prefix (emulator)
    FLUX_API_KEY             the provider's key; REPLICATE_API_TOKEN is accepted too
    FLUX_ROUTE               how official models are asked for: auto, predictions or models (auto)
    FLUX_MODELS              the only models that the provider offers, with commas (all)
    FLUX_HAS_FILES           whether it takes files by /v1/files: auto, yes or no (auto)
    FLUX_INPUT_FILES         how pictures are sent: auto, upload, inline or link (auto)
    FLUX_STORE               file:<folder> or s3://<bucket>/<prefix> (file:./data/store)
    FLUX_STORE_WRITERS       many, or one: no second ledger writes to the store (many)
    FLUX_S3_…                what a bucket demands: see ``store_options`` (nothing)
    FLUX_LEDGER              a SQLAlchemy URL (sqlite:///./data/ledger.db)
    FLUX_STATE               folder of the embedded emulator's state (data/emulator)
    FLUX_RATE                creates a minute, over all workers (600)
    FLUX_CONCURRENCY         predictions in flight in one run, at most (no limit)
    FLUX_UNKNOWN             resend or hold what may have been paid and can't be proven (resend)
    FLUX_SETTLE_SECONDS      how long a lost answer is looked for before it counts as absent (30)
    FLUX_OUTPUT_HOSTS        hosts that pictures are fetched from, besides the provider's own
                             (replicate.delivery, *.replicate.delivery; * for any public host)
    FLUX_OUTPUT_NETWORKS     networks whose addresses count as public for these downloads (none)
    FLUX_SPOOL               folder where fetched pictures wait while the store fails (data/spool)
    FLUX_CACHE               folder that remembers what loading unchanged files came to, or off
                             (data/cache)
    FLUX_BUDGET_USD_PER_DAY  at most this much a day, over all prompt sets (no limit)
    FLUX_ALERT_URL           webhooks that failures are posted to, several with commas (none)
    FLUX_ALERT_FORMAT        json, slack, dingtalk or feishu (by the webhook's host)
    FLUX_ALERT_SECRET        what DingTalk and Feishu sign with; one, or one for each webhook
    FLUX_UI_URL              where Dagster's web interface is, for links (http://127.0.0.1:3000)
    FLUX_EMBED_PROMPT        yes or no: whether image files hold their prompt (yes)
    FLUX_AIGC_PRODUCER       the producer in the TC260 label of image files (no such label)
    FLUX_C2PA_CERT           PEM file of certificates: image files are signed (they are not)
    FLUX_C2PA_KEY            PEM file of the certificate's key, or module:function that signs
    FLUX_C2PA_TSA            URL of a timestamp authority (none)
    HTTPS_PROXY, ALL_PROXY   proxy of all calls but those to this machine; lower case too (none)
    NO_PROXY                 hosts that are called without it (none)
    SSL_CERT_FILE, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE
                             PEM file of the only authorities to trust (the system's)
"""

import difflib
import ipaddress
import math
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from flux_pipeline.endpoint import (
    find_base_url_mistake,
    find_database_mistake,
    find_key_mistake,
    find_store_mistake,
    find_user_mistake,
    has_user_query_or_fragment,
    is_host_pattern,
    is_loopback,
    is_offered_model,
    is_unencrypted,
    is_web_url,
    trim_key,
)
from flux_pipeline.environment import (
    clean_name,
    clean_value,
    clean_variables,
    find_value_mistake,
    split_list,
)
from flux_pipeline.errors import ConfigError, Problem
from flux_pipeline.network import (
    CA_VARIABLES,
    NO_PROXY_VARIABLES,
    PROXY_VARIABLES,
    Network,
    find_proxy_mistake,
)
from flux_pipeline.store_options import (
    NO_OPTIONS,
    StoreOptions,
    find_key_without_kms,
    find_option_mistake,
)

EMULATOR = "emulator"
PROVIDERS = (EMULATOR, "replicate", "anyapi")
ROUTES = ("auto", "predictions", "models")
ALERT_FORMATS = ("json", "slack", "dingtalk", "feishu")
KEY_VARIABLES = ("FLUX_API_KEY", "REPLICATE_API_TOKEN")
"""The first that is set holds the key."""
LEDGER_VARIABLE = "FLUX_LEDGER"
HOME_VARIABLE = "DAGSTER_HOME"
AWS_VARIABLES = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_PROFILE",
    "AWS_CA_BUNDLE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
)
"""What boto3 reads by itself, and is cleaned for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one process. Relative paths start at its working folder."""

    configs: Path = Path("configs")
    provider: str = EMULATOR
    """A name of ``PROVIDERS``, or an http(s) base URL without a trailing slash."""
    api_key: str = field(default="", repr=False)
    key_variable: str = KEY_VARIABLES[0]
    """The variable that holds the key, so that it can be named and passed on without its value."""
    route: Literal["auto", "predictions", "models"] = "auto"
    models: tuple[str, ...] = ()
    """The models that the provider offers: ``owner/name``, ``owner/name:version`` or a version.
    Empty: all."""
    has_files: Literal["auto", "yes", "no"] = "auto"
    input_files: Literal["auto", "upload", "inline", "link"] = "auto"
    """How pictures are sent: written into the input, uploaded, or linked to in the store."""
    store: str = "file:./data/store"
    store_writers: str = NO_OPTIONS.writers
    s3_addressing: str = NO_OPTIONS.addressing
    s3_sse: str = NO_OPTIONS.sse
    s3_sse_kms_key_id: str = NO_OPTIONS.sse_kms_key_id
    s3_storage_class: str = NO_OPTIONS.storage_class
    s3_checksum: str = NO_OPTIONS.checksum
    s3_acl: str = NO_OPTIONS.acl
    s3_tags: str = NO_OPTIONS.tags
    s3_request_payer: str = NO_OPTIONS.request_payer
    ledger: str = field(default="sqlite:///./data/ledger.db", repr=False)
    """May hold a password."""
    ledger_given: bool = False
    """Whether the environment gives it; then Dagster gets the variable's name, not the value."""
    state: Path = Path("data/emulator")
    rate: float = 600.0
    """Creates a minute."""
    concurrency: int | None = None
    unknown: str = "resend"
    settle_seconds: float = 30.0
    output_hosts: tuple[str, ...] = ("replicate.delivery", "*.replicate.delivery")
    output_networks: tuple[str, ...] = ()
    """Networks whose addresses outputs may be fetched from although they are not public."""
    spool: Path = Path("data/spool")
    """Where fetched pictures wait while the store can't take them."""
    cache: Path | None = Path("data/cache")
    """Where it is remembered what loading prompt sets came to; None: nowhere."""
    budget_usd_per_day: float | None = None
    embed_prompt: str = "yes"
    aigc_producer: str = ""
    c2pa_cert: str = ""
    c2pa_key: str = ""
    """A path or ``module:function``, never the key."""
    c2pa_tsa: str = ""
    alert_url: tuple[str, ...] = field(default=(), repr=False)
    """Secret: the address alone allows posting to the webhook."""
    alert_format: str = ""
    alert_secret: tuple[str, ...] = field(default=(), repr=False)
    ui_url: str = "http://127.0.0.1:3000"
    network: Network = field(default_factory=Network)
    """The proxy, which may hold a password, and the authorities."""
    proxy_variable: str = PROXY_VARIABLES[0]
    """The variable that holds the proxy, so that it can be passed on without its value."""

    @property
    def store_options(self) -> StoreOptions:
        """Who writes to the store, and what its bucket demands."""
        return StoreOptions(
            writers=self.store_writers,
            addressing=self.s3_addressing,
            sse=self.s3_sse,
            sse_kms_key_id=self.s3_sse_kms_key_id,
            storage_class=self.s3_storage_class,
            checksum=self.s3_checksum,
            acl=self.s3_acl,
            tags=self.s3_tags,
            request_payer=self.s3_request_payer,
        )

    @classmethod
    def of_process(cls, environ: MutableMapping[str, str]) -> "Settings":
        """Read the settings from ``os.environ``, and leave there what was cleaned.

        Others read the same variables later: Dagster those of its ``EnvVar``s, boto3 its own, and
        every process that is started by this one.

        Raises:
            ConfigError: As ``from_environment``.
        """
        clean_variables(environ, _READ)
        return cls.from_environment(environ)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Settings":
        """Read the variables above, cleaned by ``clean_value``; an empty one counts as not set.

        Variables of other names are ignored, unless one is so close to ours that it must be a
        misspelling: a budget that is silently not read would cost money.

        Raises:
            ConfigError: With every mistake, each naming its variable and never a secret's value.
        """
        problems = _find_misspelled(environ)
        environ = {name: clean_value(environ[name]) for name in _READ if name in environ}
        given: dict[str, Any] = {}
        for variable, (name, parse) in VARIABLES.items():
            if text := environ.get(variable, ""):
                try:
                    given[name] = parse(text)
                except ValueError as mistake:
                    problems.append(_problem(variable, str(mistake)))
        secrets, webhooks = len(given.get("alert_secret", ())), len(given.get("alert_url", ()))
        if secrets not in (0, 1, webhooks):
            message = f"holds {secrets} secrets for {webhooks} webhooks: one, or one for each"
            problems.append(_problem("FLUX_ALERT_SECRET", message))
        if mistake_in_store := find_key_without_kms(
            given.get("s3_sse", ""), given.get("s3_sse_kms_key_id", "")
        ):
            problems.append(_problem("FLUX_S3_SSE_KMS_KEY_ID", mistake_in_store))
        if key_variable := _first_set(environ, KEY_VARIABLES):
            given["key_variable"] = key_variable
            given["api_key"] = trim_key(environ[key_variable])
            if mistake_in_key := find_key_mistake(given["api_key"]):
                problems.append(_problem(key_variable, mistake_in_key))
        given |= _read_network(environ, problems)
        problems += _find_unclean(environ, {problem.key for problem in problems})
        if problems:
            raise ConfigError(problems)
        return cls(ledger_given="ledger" in given, **given)


def find_missing_key(settings: Settings) -> Problem | None:
    """The problem that a provider other than the emulator has no key; None where it has one."""
    if settings.provider == EMULATOR or settings.api_key:
        return None
    names = " or ".join(KEY_VARIABLES)
    return _problem(
        KEY_VARIABLES[0], f"is not set, and {settings.provider} needs a key: export {names}"
    )


def is_emulated(provider: str) -> bool:
    """Whether a provider is the embedded emulator or one on this machine: both cost nothing."""
    return provider == EMULATOR or is_loopback(urlsplit(provider).hostname or "")


def parse_timestamp_authority(text: str) -> str:
    """Return the URL of a timestamp authority.

    Raises:
        ValueError: For anything but an http(s) URL, and for one that could hold a secret.
    """
    if "@" not in text and not is_web_url(text):
        raise ValueError("is not the http(s) URL of a timestamp authority")
    if has_user_query_or_fragment(text):
        raise ValueError("is a URL with a user, a query or a fragment: give host and path alone")
    return text


def _read_network(environ: Mapping[str, str], problems: list[Problem]) -> Mapping[str, Any]:
    """Read the variables that other programs share; a mistake is added to the problems."""
    proxy = _first_set(environ, PROXY_VARIABLES)
    authorities = _first_set(environ, CA_VARIABLES)
    mistake = find_proxy_mistake(environ[proxy]) if proxy else ""
    if mistake:
        problems.append(_problem(proxy, mistake))
    ca_file = environ[authorities] if authorities else ""
    if ca_file and not Path(ca_file).exists():
        problems.append(_problem(authorities, f"names no file: {ca_file} is not there"))
    no_proxy = _first_set(environ, NO_PROXY_VARIABLES)
    network = Network(
        proxy=environ[proxy] if proxy and not mistake else "",
        no_proxy=",".join(_split(environ[no_proxy])) if no_proxy else "",
        ca_file=ca_file,
    )
    return {"network": network, "proxy_variable": proxy or PROXY_VARIABLES[0]}


def _first_set(environ: Mapping[str, str], variables: Sequence[str]) -> str:
    """The first of the variables that is set, or an empty text."""
    return next((each for each in variables if environ.get(each)), "")


def _problem(variable: str, message: str) -> Problem:
    return Problem("environment", 0, variable, message)


def _find_misspelled(environ: Mapping[str, str]) -> list[Problem]:
    known = [*VARIABLES, *KEY_VARIABLES]
    problems = []
    for variable in environ.keys() - set(known):
        name = clean_name(variable)
        if name in _READ and name != variable:
            message = f"has something around its name in the environment: write {name}=value alone"
            problems.append(_problem(name, message))
        elif name.startswith("FLUX_") and (
            near := difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        ):
            problems.append(_problem(variable, f"is not known; did you mean {near[0]}?"))
    return problems


def _find_unclean(environ: Mapping[str, str], named: Collection[str]) -> list[Problem]:
    """What cleaning has left in the values; none of a variable that is named as wrong already.

    Those for AWS count only where the store is theirs: other programs have such too.
    """
    uses_s3 = environ.get("FLUX_STORE", "").startswith("s3:")
    return [
        _problem(variable, mistake)
        for variable, text in environ.items()
        if variable not in named
        and (uses_s3 or variable not in AWS_VARIABLES)
        and (mistake := find_value_mistake(text))
    ]


def _one_of(*words: str) -> Callable[[str], str]:
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


def _whole_number(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        # Cut before int(), which takes quadratic time and refuses more than 4,300 digits.
        if not (text.isascii() and text.isdigit() and lowest <= int(text[:9]) <= highest):
            raise ValueError(f"{text!r} is not allowed (a whole number, {lowest} to {highest})")
        return int(text)

    return parse


def _provider(text: str) -> str:
    if text in PROVIDERS:
        return text
    if "@" not in text and not is_web_url(text):
        raise ValueError(f"is neither {', '.join(PROVIDERS)} nor an http(s) base URL")
    if mistake := find_base_url_mistake(text):
        raise ValueError(mistake)
    return text.rstrip("/")


def _webhooks(text: str) -> tuple[str, ...]:
    # No message holds the address, because it is a secret.
    addresses = _split(text)
    for address in addresses:
        if "@" in address and (mistake := find_user_mistake(address)):
            raise ValueError(mistake)
        if not is_web_url(address) or urlsplit(address).username:
            raise ValueError("is no https URL without a user (several: with commas)")
        if is_unencrypted(address):
            raise ValueError("would go in clear: use https, http only on this machine")
    return addresses


def _webhook_secrets(text: str) -> tuple[str, ...]:
    # An empty one stays: it says that the webhook at its place is not signed.
    return split_list(text)


def _web_page(text: str) -> str:
    if "@" in text or not is_web_url(text) or urlsplit(text).query:
        raise ValueError("is no http(s) address of a page, such as https://dagster.example")
    return text.rstrip("/")


def _store(text: str) -> str:
    if mistake := find_store_mistake(text):
        raise ValueError(f"is no address of a store: {mistake}")
    return text


def _store_option(name: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if mistake := find_option_mistake(name, text):
            raise ValueError(mistake)
        return text

    return parse


def _tags(text: str) -> str:
    return _store_option("tags")(",".join(_split(text)))


def _hosts(text: str) -> tuple[str, ...]:
    hosts = _split(text.lower())
    for host in hosts:
        if not is_host_pattern(host):
            raise ValueError(
                f"{_shown(host, text)} is not a host, *.host or * (several: with commas)"
            )
    return hosts


def _models(text: str) -> tuple[str, ...]:
    models = _split(text)
    for model in models:
        if not is_offered_model(model):
            raise ValueError(
                f"{_shown(model, text)} is neither owner/name, owner/name:version nor a version of"
                " 64 hex digits (several: with commas)"
            )
    return models


def _networks(text: str) -> tuple[str, ...]:
    networks = _split(text)
    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            shown = _shown(network, text)
            message = f"{shown} is no network such as 198.18.0.0/15 (several: with commas)"
            raise ValueError(message) from None
    return networks


def _shown(entry: str, text: str) -> str:
    """An entry as a message quotes it, unless the text holds an address with a user."""
    return "a part of it" if "@" in text else repr(entry)


def _split(text: str) -> tuple[str, ...]:
    return tuple(part for part in split_list(text) if part)


def _database_url(text: str) -> str:
    if mistake := find_database_mistake(text):
        raise ValueError(mistake)
    return text


def _pem_path(text: str) -> str:
    if "-----" in text:
        raise ValueError("holds PEM itself: put it into a file and give its path")
    return text


VARIABLES: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "FLUX_CONFIGS": ("configs", Path),
    "FLUX_PROVIDER": ("provider", _provider),
    "FLUX_ROUTE": ("route", _one_of(*ROUTES)),
    "FLUX_MODELS": ("models", _models),
    "FLUX_HAS_FILES": ("has_files", _one_of("auto", "yes", "no")),
    "FLUX_INPUT_FILES": ("input_files", _one_of("auto", "upload", "inline", "link")),
    "FLUX_STORE": ("store", _store),
    "FLUX_STORE_WRITERS": ("store_writers", _store_option("writers")),
    "FLUX_S3_ADDRESSING": ("s3_addressing", _store_option("addressing")),
    "FLUX_S3_SSE": ("s3_sse", _store_option("sse")),
    "FLUX_S3_SSE_KMS_KEY_ID": ("s3_sse_kms_key_id", _store_option("sse_kms_key_id")),
    "FLUX_S3_STORAGE_CLASS": ("s3_storage_class", _store_option("storage_class")),
    "FLUX_S3_CHECKSUM": ("s3_checksum", _store_option("checksum")),
    "FLUX_S3_ACL": ("s3_acl", _store_option("acl")),
    "FLUX_S3_TAGS": ("s3_tags", _tags),
    "FLUX_S3_REQUEST_PAYER": ("s3_request_payer", _store_option("request_payer")),
    LEDGER_VARIABLE: ("ledger", _database_url),
    "FLUX_STATE": ("state", Path),
    "FLUX_RATE": ("rate", _number(0.1, 1_000_000)),
    "FLUX_CONCURRENCY": ("concurrency", _whole_number(1, 4096)),
    "FLUX_UNKNOWN": ("unknown", _one_of("resend", "hold")),
    "FLUX_SETTLE_SECONDS": ("settle_seconds", _number(0, 3600)),
    "FLUX_OUTPUT_HOSTS": ("output_hosts", _hosts),
    "FLUX_OUTPUT_NETWORKS": ("output_networks", _networks),
    "FLUX_SPOOL": ("spool", Path),
    "FLUX_CACHE": ("cache", lambda text: None if text.lower() == "off" else Path(text)),
    "FLUX_BUDGET_USD_PER_DAY": ("budget_usd_per_day", _number(0, 1_000_000)),
    "FLUX_EMBED_PROMPT": ("embed_prompt", _one_of("yes", "no")),
    "FLUX_AIGC_PRODUCER": ("aigc_producer", str),
    "FLUX_C2PA_CERT": ("c2pa_cert", _pem_path),
    "FLUX_C2PA_KEY": ("c2pa_key", _pem_path),
    "FLUX_C2PA_TSA": ("c2pa_tsa", parse_timestamp_authority),
    "FLUX_ALERT_URL": ("alert_url", _webhooks),
    "FLUX_ALERT_FORMAT": ("alert_format", _one_of(*ALERT_FORMATS)),
    "FLUX_ALERT_SECRET": ("alert_secret", _webhook_secrets),
    "FLUX_UI_URL": ("ui_url", _web_page),
}
"""By variable the field of ``Settings`` that it fills, and what turns its text into a value."""

_READ = (
    *VARIABLES,
    *KEY_VARIABLES,
    *PROXY_VARIABLES,
    *NO_PROXY_VARIABLES,
    *CA_VARIABLES,
    *AWS_VARIABLES,
    HOME_VARIABLE,
)
"""Every variable that is read here, or by others for this process; all are cleaned alike."""
