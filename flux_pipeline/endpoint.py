"""Rules for addresses: a provider's base URL, key, hosts and models, stores, databases, brokers.

The settings check the environment with them; those who open the real thing check their callers, so
that all accept the same. A message never holds the value that it is about: it may be a key.

A password with ``@``, ``/``, ``#`` or ``%`` that is not encoded is cut at the wrong place by every
parser, each in its own way, and what follows is then shown as a host or a database. So an address
in which user and password don't end at one certain place is refused before it is parsed.
"""

import ipaddress
import re
from urllib.parse import unquote, urlsplit

_PLACEHOLDER = re.compile(
    r"your[_-]?(api[_-]?)?(key|token)|api[_-]?key|change[_-]?me|xxx", re.IGNORECASE
)
_STORE_FORMS = "write file:PATH, file:///PATH or s3://bucket/prefix"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"(?:[A-Za-z0-9_=-][A-Za-z0-9._=-]*/)*")
_MAX_PREFIX = 200
_HOST_PATTERN = re.compile(r"\*|(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_MODEL = "[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*"
_OFFERED_MODEL = re.compile(f"{_MODEL}(:[0-9a-f]{{64}})?|[0-9a-f]{{64}}")


AMBIGUOUS = (
    "is ambiguous: encode @ as %40, / as %2F, # as %23, % as %25 in user and password, and other"
    " signs likewise"
)
_USER_INFO = re.compile(r"(?:[^@/?#%\s\[\]\\]|%[0-9A-Fa-f]{2})*")
_HOST_AND_PORT = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\[\]:]*)(?::[0-9]*)?")
_WITH_KEYS_AS_THEY_ARE = ("azureservicebus", "azurestoragequeues", "azureblockblob")
"""Schemes whose own parsers want keys that are not encoded."""


def find_user_mistake(url: str) -> str:
    """Why it is uncertain where user and password of a URL end; empty where it is certain.

    An ``@`` behind the host makes it uncertain too, so it is written ``%40`` there. Nothing is
    found in a text without ``://``, and in a URL without a host, such as ``sqlite:////data/a@b``.
    """
    rest = url.partition("://")[2]
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    user, at, hosts = authority.rpartition("@")
    if not authority:
        return ""
    if "@" in rest.removeprefix(user + at) or not _USER_INFO.fullmatch(user):
        return AMBIGUOUS
    if not url.isprintable() or not all(map(_HOST_AND_PORT.fullmatch, hosts.split(","))):
        return AMBIGUOUS if at else "has a host or a port that is none"
    return ""


def find_database_mistake(url: str) -> str:
    """Why a text can't be a database's URL, or not surely the one meant; empty where it can."""
    if "://" not in url:
        return "is not a database URL such as sqlite:///./data/ledger.db"
    return find_user_mistake(url)


def find_broker_mistake(urls: str) -> str:
    """Why a text can't be the URL of a broker or of its results, or several with semicolons."""
    mistakes = [
        find_user_mistake(url) if "://" in url else "is not a URL such as redis://host:6379/0"
        for url in urls.split(";")
        if not url.startswith(_WITH_KEYS_AS_THEY_ARE)
    ]
    found = next(filter(None, mistakes), "")
    return AMBIGUOUS if found and "@" in urls else found


def is_model_name(text: str) -> bool:
    """Whether a text can be a model's name, ``owner/name``."""
    return re.fullmatch(_MODEL, text) is not None


def is_offered_model(text: str) -> bool:
    """Whether a text is an ``owner/name``, an ``owner/name:version`` or a version (64 hex digits).

    So a provider's white list names models.
    """
    return _OFFERED_MODEL.fullmatch(text) is not None


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
    if "@" not in base_url and not is_web_url(base_url):
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
    """Whether a URL holds a user, a query or a fragment, any of which may be a secret.

    An ``@`` anywhere counts as a user's end, because a password that is not encoded moves it.
    """
    return any(map(url.__contains__, "@?#"))


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


def find_store_mistake(uri: str) -> str:
    """Why an address can't be a store's; empty where it can."""
    scheme, _, rest = uri.partition(":")
    if scheme == "file":
        return "" if store_folder(rest) else "no folder here; write file:PATH or file:///PATH, no ~"
    if "@" in uri or "?" in uri:
        return f"the address holds '@' or '?'; {_STORE_FORMS}, and keys in AWS_ variables"
    if scheme != "s3" or not rest.startswith("//"):
        return f"no such kind of store; {_STORE_FORMS}"
    return _find_bucket_mistake(*split_bucket(uri))


def _find_bucket_mistake(bucket: str, prefix: str) -> str:
    if _BUCKET.fullmatch(bucket) is None:
        return "a bucket's name has 3 to 63 of a-z, 0-9, '.' and '-'"
    if _PREFIX.fullmatch(prefix) is None or len(prefix) > _MAX_PREFIX:
        return (
            "a prefix has parts of letters, digits and '._=-', none beginning with '.', and"
            f" {_MAX_PREFIX} characters in all"
        )
    return ""


def store_folder(rest: str) -> str:
    """The folder of a ``file:`` address, of which ``rest`` follows the colon; empty for none."""
    if rest.startswith("//"):
        host, _, path = rest[2:].partition("/")
        rest = f"/{unquote(path)}" if host in ("", "localhost") and path else ""
    return "" if rest.startswith("~") or "\0" in rest else rest


def split_bucket(uri: str) -> tuple[str, str]:
    """Bucket and prefix of an ``s3://`` address; a prefix that is not empty ends with a slash."""
    bucket, _, prefix = uri.partition("://")[2].partition("/")
    prefix = prefix.rstrip("/")
    return bucket, f"{prefix}/" if prefix else ""
