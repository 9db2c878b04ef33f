"""The network that outgoing calls take: a proxy, the hosts that need none, and a CA of one's own.

The settings read it from the variables that other programs read too; the values are given on to
every client, and none of those looks at the environment. A proxy's password is in no
representation and in no message.
"""

import base64
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from flux_pipeline.endpoint import AMBIGUOUS, is_loopback

PROXY_VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
"""The first that is set holds the proxy, as with curl."""
NO_PROXY_VARIABLES = ("no_proxy", "NO_PROXY")
CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""The first that is set names the file of authorities."""

_PART = r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})"
_PROXY = re.compile(
    rf"https?://(?:{_PART}*(?::(?:{_PART}|:)*)?@)?"
    r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?/?"
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_MAX_PORT = 65535
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """One proxy: its address, and the header by which it knows us."""

    host: str
    port: int
    scheme: str = "http"
    authorization: str = field(default="", repr=False)
    """``Basic`` with user and password; empty where the proxy wants none."""

    @property
    def url(self) -> str:
        """Its URL, without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """How calls leave this machine. Without a proxy they leave directly.

    Raises:
        ValueError: For a proxy whose URL is none; never with a part of it.
    """

    proxy: str = field(default="", repr=False)
    """A URL, with user and password where the proxy wants them; empty for none."""
    no_proxy: str = ""
    """Hosts that are called directly, with commas: see ``proxy_for``."""
    ca_file: str = ""
    """PEM file, or folder, of the only authorities that are trusted; empty: the system's and
    those of ``certifi``."""

    def __post_init__(self) -> None:
        if self.proxy and (mistake := find_proxy_mistake(self.proxy)):
            raise ValueError(mistake)

    @property
    def own_proxy(self) -> Proxy | None:
        """The proxy, whatever is called."""
        return parse_proxy(self.proxy) if self.proxy else None

    def proxy_for(self, url: str) -> Proxy | None:
        """The proxy for a URL; None where it is called directly.

        Only https goes through a proxy, because http goes to this machine alone, which is always
        called directly. An entry of ``no_proxy`` is a host with all below it (``example.com``,
        ``.example.com``, ``*.example.com``), an address, a network (``10.0.0.0/8``), any of the
        first two with a port, or ``*`` for all.
        """
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
        port = parts.port or _PORTS.get(parts.scheme, 0)
        if not self.proxy or parts.scheme != "https" or is_loopback(host):
            return None
        entries = re.split(r"[,\s]+", self.no_proxy.strip().lower())
        return None if _matches(host, port, entries) else self.own_proxy


def find_proxy_mistake(text: str) -> str:
    """Why a text can't be a proxy's URL; empty where it can. No part of it is in the message."""
    scheme = _SCHEME.match(text)
    if scheme is not None and scheme[1].lower() not in _PORTS:
        kind = "SOCKS" if scheme[1].lower().startswith("socks") else "such"
        return f"names a proxy of a kind that can't be used (no {kind}): give an http:// one"
    found = _PROXY.fullmatch(_with_scheme(text))
    if found is not None and (found["port"] is None or 0 < int(found["port"]) <= _MAX_PORT):
        return ""
    if "@" in text:
        return AMBIGUOUS
    return "is no URL of a proxy such as http://proxy.example:3128"


def parse_proxy(text: str) -> Proxy:
    """Return the proxy of a URL; without a scheme it is http.

    Raises:
        ValueError: For a text that ``find_proxy_mistake`` refuses.
    """
    if mistake := find_proxy_mistake(text):
        raise ValueError(mistake)
    parts = urlsplit(_with_scheme(text))
    authorization = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
    port = parts.port or _PORTS[parts.scheme]
    return Proxy(parts.hostname or "", port, parts.scheme, authorization)


def _with_scheme(text: str) -> str:
    found = _SCHEME.match(text)
    return f"http://{text}" if found is None else found[0].lower() + text[found.end() :]


def _matches(host: str, port: int, entries: Sequence[str]) -> bool:
    return any(_matches_one(host, port, entry) for entry in entries if entry)


def _matches_one(host: str, port: int, entry: str) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        return _is_in(host, entry)
    name, only = _split_port(entry)
    if only not in (None, port):
        return False
    if _is_in(host, host):  # an address, whose end is no domain
        return _is_in(host, name)
    name = name.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _split_port(entry: str) -> tuple[str, int | None]:
    """The host of an entry, and its port where it names one."""
    found = re.fullmatch(r"(\[.+\]|[^:]+):([0-9]{1,5})", entry)
    name, port = (found[1], int(found[2])) if found else (entry, None)
    return name.strip("[]"), port


def _is_in(host: str, network: str) -> bool:
    """Whether a literal address lies in a network, or is the address that it names."""
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
