"""Checks LoRA references, and the URLs that an input may name.

The rules for LoRA weights follow the branches of lucataco/flux-schnell-lora's published code, which
decides by the text alone and fails, or loads something else, after the prediction has started. URLs
must be public and encrypted and hold no credentials: the provider fetches them, so a private
address is a mistake or an attack. No name is resolved here.
"""

import re
from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit

from flux_pipeline.text import escaped

_REPOSITORY = re.compile(r"[A-Za-z0-9_-]+/[A-Za-z0-9_-]+")
_HUGGING_FACE_MAIN = re.compile(
    r"/[A-Za-z0-9_-]+/[A-Za-z0-9_-]+/(?:resolve|blob)/main/.+\.safetensors"
)
_CIVITAI = re.compile(
    r"https://civitai\.com/api/download/models/[0-9]+\?type=Model&format=SafeTensor"
)
_TRAINED = re.compile(
    r"https://replicate\.delivery/[A-Za-z0-9_-]+/[A-Za-z0-9_-]+/trained_model\.tar"
)
_HF_FILE = re.compile(r"/[^/]+/[^/]+/resolve/[^/]+/.+\.safetensors")
_HF_PATH = re.compile(
    r"/(?P<repository>[^/]+/[^/]+)"
    r"(?:/(?:resolve|blob|tree|raw)/(?P<revision>[^/]+)(?:/(?P<file>.+))?)?"
)
_ALLOWED = "owner/name (letters, digits, _ and -) or an https:// address of a .safetensors file"
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


def checked_lora(value: str) -> str:
    """The reference as given, if the model loads exactly the weights that it names.

    Raises:
        ValueError: With the rule that it breaks and what to write instead.
    """
    if _REPOSITORY.fullmatch(value):
        return value
    if re.match(r"(?i)data:", value):
        raise ValueError(f"is a data: URI; allowed is {_ALLOWED}")
    if "://" not in value:
        raise ValueError(_describe_bad_repository(value))
    parts = checked_url(value)
    if parts.hostname in {"huggingface.co", "www.huggingface.co"}:
        if parts.query or not _HUGGING_FACE_MAIN.fullmatch(parts.path):
            raise ValueError(
                "the model loads the main revision of owner/name, without dots, for every "
                f"huggingface.co address, whatever the address says; {_say_address(parts.path)}"
            )
    elif parts.hostname == "hf.co" and not _HF_FILE.fullmatch(parts.path):
        raise ValueError(f"is a page of hf.co, not a file of weights; {_say_address(parts.path)}")
    elif not (
        parts.path.endswith(".safetensors")
        or value.endswith(".safetensors")
        or _CIVITAI.match(value)
        or _TRAINED.match(value)
    ):
        raise ValueError(f"is an address of no weights that the model loads; allowed is {_ALLOWED}")
    return value


def lora_warnings(value: str) -> Iterator[str]:
    """Messages about a reference that is allowed but perhaps not meant."""
    if "://" not in value:
        return
    if has_foreign_letters(value):
        host = (urlsplit(value).hostname or "").encode("idna").decode("ascii")
        yield f"the host has letters beyond a-z ({host}): make sure that it is the one you mean"
    if urlsplit(value).path.endswith(".safetensors") and not value.endswith(".safetensors"):
        yield (
            "the model's published code takes an address only where it ends in .safetensors: "
            "with a query after it the prediction may fail"
        )


def _describe_bad_repository(value: str) -> str:
    if "@" in value:
        return "the model takes no @revision; write owner/name, which loads the main revision"
    if value.startswith((".", "/", "~")) or "\\" in value:
        return f"is a path; the provider can't read this machine's files: allowed is {_ALLOWED}"
    without_host = re.sub(r"^(?:www\.)?(?:huggingface|hf)\.co/", "", value)
    if without_host != value:
        return f"is a web address without https://; {_say_address(f'/{without_host}')}"
    if "." in value and value.count("/") == 1:
        return f"the model takes no dots in owner/name; {_say_address(f'/{value}')}"
    return f"is not owner/name; allowed is {_ALLOWED}"


def _say_address(path: str) -> str:
    """What to write instead of a Hugging Face address of this path, as exactly as it can be said.

    ``hf.co`` leads to the same files, and the model takes it for an address like any other.
    """
    found = _HF_PATH.match(path)
    if found is None:
        return "write owner/name, or https://hf.co/owner/name/resolve/<commit>/<file>.safetensors"
    repository, revision = found["repository"], found["revision"] or "main"
    base = f"https://hf.co/{escaped(repository)}"
    if found["file"] and found["file"].endswith(".safetensors"):
        return f"write {base}/resolve/{escaped(revision)}/{escaped(found['file'])}"
    is_plain = _REPOSITORY.fullmatch(repository) and revision == "main"
    short = f"{repository}, or " if is_plain else ""
    return (
        f"write {short}{base}/resolve/{escaped(revision)}/<file>.safetensors with the name of the "
        f"file that {base}/tree/{escaped(revision)} lists"
    )


def checked_url(url: str) -> SplitResult:
    """The parts of a URL that the provider may be asked to fetch.

    An international host name passes; ``has_foreign_letters`` finds it for a warning. Messages
    never hold the URL itself, because it may carry a token.

    Raises:
        ValueError: Not https, with user or password, not a public host name, or too long.
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
