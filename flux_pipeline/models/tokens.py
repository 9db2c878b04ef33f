"""How many tokens a prompt has, roughly and without a tokenizer.

A tokenizer would be 2 MB of vocabulary for one warning. The estimate counts a word of up to six
letters as one token, a longer one as one for every six, and each sign and each letter of a
script without spaces as one: near enough for English prose, high for other scripts.
"""

import re

_PIECE = re.compile(r"[A-Za-z0-9']+|[^\sA-Za-z0-9']")
_LETTERS_PER_TOKEN = 6


def estimate_tokens(text: str) -> int:
    """About how many tokens the text encoder sees; the true number may differ by a quarter."""
    return sum(-(-len(piece) // _LETTERS_PER_TOKEN) for piece in _PIECE.findall(text))
