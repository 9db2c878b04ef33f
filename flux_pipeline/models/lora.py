"""What ``hf_lora`` may name: the weights that lucataco/flux-schnell-lora really loads.

The rules follow the branches of the model's published code, which decides by the text alone and
fails, or loads something else, after the prediction has started.
"""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from flux_pipeline.models.addresses import checked_url, has_foreign_letters

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
_FORMS = "owner/name (letters, digits, _ and -) or an https:// address of a .safetensors file"


def checked_lora(value: str) -> str:
    """The reference as given, if the model loads exactly what it says.

    Raises:
        ValueError: with the rule that it breaks and what to write instead.
    """
    if _REPOSITORY.fullmatch(value):
        return value
    if re.match(r"(?i)data:", value):
        raise ValueError(f"is a data: URI; allowed is {_FORMS}")
    if "://" not in value:
        raise ValueError(_why_no_repository(value))
    parts = checked_url(value)
    if parts.hostname in {"huggingface.co", "www.huggingface.co"}:
        if parts.query or not _HUGGING_FACE_MAIN.fullmatch(parts.path):
            raise ValueError(
                "the model loads the main revision for every huggingface.co address, whatever the "
                "address says; write owner/name, or pin it as "
                "https://hf.co/owner/name/resolve/<commit>/<file>.safetensors"
            )
    elif not (
        parts.path.endswith(".safetensors")
        or value.endswith(".safetensors")
        or _CIVITAI.match(value)
        or _TRAINED.match(value)
    ):
        raise ValueError(f"is an address of no weights that the model loads; allowed is {_FORMS}")
    return value


def lora_warnings(value: str) -> Iterator[str]:
    """What is allowed and may still not be meant."""
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


def _why_no_repository(value: str) -> str:
    if "@" in value:
        return "the model takes no @revision; write owner/name, which loads the main revision"
    if value.startswith((".", "/", "~")) or "\\" in value:
        return f"is a path; the provider can't read this machine's files: allowed is {_FORMS}"
    if "." in value and value.count("/") == 1:
        return "the model takes no dots in owner/name; give the https:// address of the file"
    return f"is not owner/name; allowed is {_FORMS}"
