"""What is allowed in a prompt and perhaps not meant: invisible characters, keys, great length."""

import re
import unicodedata
from collections.abc import Iterator

from flux_pipeline.models import Model, ModelInput
from flux_pipeline.models.base import estimate_tokens
from flux_pipeline.redaction import looks_secret

# Characters that turn or hide text. A joiner between emoji, or in scripts that need it, is fine:
# it is one behind a Latin letter or digit that nobody typed.
_INVISIBLE = re.compile(
    "[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
    "|(?<=[A-Za-z0-9])[\u200c\u200d]"
)


def advise(model: Model, values: ModelInput) -> Iterator[tuple[str, str]]:
    """Pairs of input and warning for one prompt; no warning holds the prompt's text."""
    yield from values.warnings()
    text = values.prompt
    found = None if text.isascii() else _INVISIBLE.search(text)
    if found is not None:
        code = f"U+{ord(found[0]):04X} {unicodedata.name(found[0], '')}".strip()
        yield "prompt", f"holds an invisible character at character {found.start() + 1}: {code}"
    if looks_secret(text):
        yield "prompt", "seems to hold a key or token; it would be sent and stored with the image"
    # A token has one character at least, so that short texts need no count.
    if len(text) > model.prompt_tokens and (n := estimate_tokens(text)) > model.prompt_tokens:
        message = (
            f"has about {n} tokens (estimated without a tokenizer); the model reads "
            f"{model.prompt_tokens} and cuts off the rest"
        )
        yield "prompt", message
