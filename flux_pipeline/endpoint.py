"""Rules for a provider's endpoint: its base URL, its API key and the hosts of its outputs.

The settings check the environment with them and ``ProviderConfig`` checks its callers, so that both
accept the same. A message never holds the value that it is about: it may be a key.
"""

import ipaddress
import re
from urllib.parse import urlsplit

_PLACEHOLDER = re.compile(
    r"your[_-]?(api[_-]?)?(key|token)|api[_-]?key|change[_-]?me|xxx", re.IGNORECASE
)
_HOST_PATTERN = re.compile(r"\*|(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


def trim_key(text: str) -> str:
    """The key without the blanks, the quotes and the ``Bearer`` that copying adds."""
    key = text.strip().strip("\"'").strip()
    return key[7:].strip() if key[:7].lower() == "bearer " else key


def find_key_mistake(key: str) -> str:
    """Why a trimmed key can't be one; empty where it may be."""
    if not key:
        return "is empty: give the provider's key"
    if not key.isascii() or not key.isprintable() or set(key) & set(" \"'"):
        return "holds blanks, quotes or characters that no key has: copy the key alone"
    if _PLACEHOLDER.fullmatch(key.strip("<>[]{}")):
        return "holds a placeholder: put the provider's key here"
    return ""


def find_base_url_mistake(base_url: str) -> str:
    """Why a base URL can't be used with a key; empty where it can."""
    # urlsplit drops tabs and line ends silently, and some clients end a host at a backslash.
    if not base_url.isascii() or not base_url.isprintable() or set(base_url) & set(" \\"):
        return "holds blanks or characters that no URL has"
    if not is_web_url(base_url):
        return "is no URL such as https://api.replicate.com"
    if has_user_query_or_fragment(base_url):
        return "holds a user, a query or a fragment: give the base alone"
    if is_unencrypted(base_url):
        return "would send the key in clear: use https, http only on this machine"
    return ""


def is_web_url(url: str) -> bool:
    """Whether the text is an http(s) URL with a host and, if it names a port, a possible one."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def has_user_query_or_fragment(url: str) -> bool:
    """Whether a URL holds a user, a query or a fragment, any of which may be a secret."""
    parts = urlsplit(url)
    return "@" in parts.netloc or bool(parts.query or parts.fragment)


def is_unencrypted(url: str) -> bool:
    """Whether others on the network could read what is sent to a URL: http to another machine."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def is_loopback(host: str) -> bool:
    """Whether the name or address is this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_host_pattern(text: str) -> bool:
    """Whether the text is a host name, ``*.host`` for those below it, or ``*`` for any."""
    return _HOST_PATTERN.fullmatch(text) is not None
