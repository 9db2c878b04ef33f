"""The provider's configuration: base URL, key, timeouts, rates and size limits, with defaults.

The key is for ``base_url``'s origin alone; a config can't be pickled or copied, so that the key
does not travel inside something else.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import quote, urlsplit

from flux_pipeline.endpoint import (
    find_base_url_mistake,
    find_key_mistake,
    is_host_pattern,
    is_offered_model,
    trim_key,
)
from flux_pipeline.errors import ConfigError, Problem
from flux_pipeline.network import Network
from flux_pipeline.provider.offers import Route
from flux_pipeline.provider.public_addresses import is_network
from flux_pipeline.provider.tls import find_ca_mistake

_CALLS_PER_MINUTE = 3000.0
_CALLS_PER_CREATE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds. A create must end well within the ledger's lease."""

    connect: float = 10.0
    """DNS, TCP and TLS together, and the wait for a free connection."""
    create: float = 55.0
    """A create, from the pool to the last byte: some providers reply only when it is finished."""
    call: float = 30.0
    """Any other call."""
    upload: float = 120.0
    """One file."""
    download: float = 120.0
    """One output with all its redirects."""
    silence: float = 30.0
    """Longest pause in a download."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderConfig:
    """One provider: where it is, its key, and the limits of its use.

    Raises:
        ConfigError: For a base URL that would send the key in clear, a key that no header can
            hold, and limits that allow nothing; with all mistakes, never with the key.
    """

    base_url: str
    """With the prefix, without ``/v1``: ``https://api.replicate.com``,
    ``https://www.anyapi.vip/replicate``. http only on this machine."""
    api_key: str = field(repr=False)
    """Blanks, quotes and ``Bearer`` around it are dropped."""
    has_list: bool | None = None
    """Whether predictions can be listed; None: known after the first try."""
    has_files: bool | None = None
    """Whether files can be uploaded by ``/v1/files``; None: known after the first try."""
    route: Route = "predictions"
    models: tuple[str, ...] = ()
    """The models that this provider offers: ``owner/name`` with all its versions,
    ``owner/name:<64 hex digits>``, or a version alone. Empty: all."""
    output_hosts: tuple[str, ...] = ("replicate.delivery", "*.replicate.delivery")
    """Where outputs may lie, besides the provider's own origin; ``*`` for any public host."""
    output_networks: tuple[str, ...] = ()
    """Networks, such as ``198.18.0.0/15``, whose addresses count as public for downloads.

    The risk: a reply of the provider can make this machine fetch from every host in them. This
    machine itself, link-local addresses and metadata services have to be named by themselves.
    """
    network: Network = field(default_factory=Network)
    """The proxy and the authorities, for calls and downloads alike."""
    timeouts: Timeouts = Timeouts()
    creates_per_minute: float = 600.0
    calls_per_minute: float = _CALLS_PER_MINUTE
    concurrency: int = 384
    """Calls at once; a call beyond it waits for a connection. The engine sends at most 256 creates
    at once and has 64 inputs prepared, the client polls 64 predictions."""
    page_tries: int = 6
    """Tries for one page of the list: where calls often fail, a list of many pages would otherwise
    never be read to its end."""
    max_reply_bytes: int = 16 * 2**20
    """Of a successful reply: images may lie in it. Other replies are cut at 1 MiB."""
    max_page_bytes: int = 64 * 2**20
    """Of one page of the list: it may show every picture that was sent within an input."""
    max_download_bytes: int = 160 * 2**20
    """Of one output: a PNG of ``images.inspection.MAX_PIXELS`` may be so large."""
    max_upload_bytes: int = 100 * 10**6
    """Of one file; larger ones are not sent."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_url", _trim_base(self.base_url))
        object.__setattr__(self, "api_key", trim_key(self.api_key))
        problems = [Problem("provider", 0, key, message) for key, message in _mistakes(self)]
        if problems:
            raise ConfigError(problems)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a provider's config holds a key: make a new one from the settings")

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port that the key belongs to."""
        return origin_of(self.base_url)

    @property
    def predictions_url(self) -> str:
        """Where predictions are created and listed."""
        return f"{self.base_url}/v1/predictions"

    def prediction_url(self, prediction_id: str) -> str:
        """Where one prediction is; built from our own base, never from a reply's ``urls``."""
        return f"{self.predictions_url}/{quote(prediction_id, safe='')}"

    @property
    def files_url(self) -> str:
        """Where files are uploaded."""
        return f"{self.base_url}/v1/files"

    def model_url(self, name: str) -> str:
        """Where one model is, by its ``owner/name``."""
        return f"{self.base_url}/v1/models/{quote(name)}"


def usual_calls(creates_per_minute: float) -> float:
    """How many other calls a minute go with a rate of creates: Replicate allows five times as many.

    Where it is fewer, the limiter learns it from refusals.
    """
    return max(_CALLS_PER_MINUTE, _CALLS_PER_CREATE * creates_per_minute)


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL, in lower case.

    Raises:
        ValueError: For a URL without a host, or with a port that is none.
    """
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("a URL without a host")
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _trim_base(base_url: str) -> str:
    trimmed = base_url.strip().rstrip("/")
    return trimmed.removesuffix("/predictions").removesuffix("/v1")


def _mistakes(config: ProviderConfig) -> Iterator[tuple[str, str]]:
    """Yield every mistake as (field, message)."""
    if base := find_base_url_mistake(config.base_url):
        yield "base_url", base
    if key := find_key_mistake(config.api_key):
        yield "api_key", key
    yield from _entry_mistakes(config)
    if config.network.ca_file and (ca := find_ca_mistake(config.network.ca_file)):
        yield "network", ca
    positive = {
        "creates_per_minute": config.creates_per_minute,
        "calls_per_minute": config.calls_per_minute,
        "concurrency": config.concurrency,
        "page_tries": config.page_tries,
        "max_reply_bytes": config.max_reply_bytes,
        "max_page_bytes": config.max_page_bytes,
        "max_download_bytes": config.max_download_bytes,
        "max_upload_bytes": config.max_upload_bytes,
    }
    for name, value in positive.items():
        if not value > 0:
            yield name, f"{value} is not allowed (more than 0)"


def _entry_mistakes(config: ProviderConfig) -> Iterator[tuple[str, str]]:
    """Yield the mistakes in the lists of hosts, models and networks."""
    for host in config.output_hosts:
        if not is_host_pattern(host):
            shown = "an entry" if "@" in host else repr(host)  # an address may hold a password
            yield "output_hosts", f"{shown} is not a host, *.host or *"
    for model in config.models:
        if not is_offered_model(model):
            yield "models", f"{model!r} is neither owner/name, owner/name:version nor a version"
    for network in config.output_networks:
        if not is_network(network):
            yield "output_networks", f"{network!r} is no network such as 198.18.0.0/15"
