"""Which web addresses may stand in an input: public, encrypted, without credentials.

The provider fetches them, not this machine; an address that only makes sense inside somebody's
network is a mistake or an attack either way. Nothing is resolved here.
"""

import re
from urllib.parse import SplitResult, urlsplit

MAX_URL_CHARACTERS = 2_048

_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_HOST = re.compile(rf"(?:{_LABEL}\.)+(?=[a-z])[a-z0-9-]{{2,63}}")
_PRIVATE_SUFFIXES = (
    ".local",
    ".localhost",
    ".internal",
    ".intranet",
    ".lan",
    ".home.arpa",
    ".onion",
)


def checked_url(url: str) -> SplitResult:
    """The parts of an address that the provider may be asked to fetch.

    An international host name passes; ``has_foreign_letters`` finds it for a warning. Messages
    never hold the address itself, because it may carry a token.

    Raises:
        ValueError: not https, with user or password, not a public host name, or too long.
    """
    if len(url) > MAX_URL_CHARACTERS:
        raise ValueError(
            f"is an address of {len(url):,} characters; at most {MAX_URL_CHARACTERS:,}"
        )
    if re.search(r"[\s\\<>\"]", url):
        raise ValueError("is an address with a space, quote, bracket or backslash in it")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise ValueError("is not a valid web address") from error
    if parts.scheme != "https":
        raise ValueError(
            f"has the scheme {parts.scheme or 'none'}: only https:// addresses are fetched"
        )
    if "@" in parts.netloc:
        raise ValueError("holds a user name or password before the host; take it out")
    if not _HOST.fullmatch(_ascii_host(host)) or host.endswith(_PRIVATE_SUFFIXES):
        raise ValueError("must name a public host: no IP address, no name of a private network")
    return parts


def has_foreign_letters(url: str) -> bool:
    """Whether the host holds letters beyond ASCII, plain or as ``xn--``: it may imitate another."""
    host = urlsplit(url).hostname or ""
    return not host.isascii() or any(label.startswith("xn--") for label in host.split("."))


def _ascii_host(host: str) -> str:
    try:
        return host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        return ""
