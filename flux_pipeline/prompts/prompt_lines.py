"""Reads prompts that stand in a line each (``boat: a boat of wood``), all of a file at once.

Most of a large file are such lines. Read one by one, each costs 16 µs: libyaml's events, an object,
the checks. Here one pattern finds all of them, and what they have in common is read and checked
with the first (``PromptLines.sample``). A file that holds anything else among its prompts, or
anything that is wrong, is left to ``parse_yaml`` and ``check``, which know what to say about it.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from flux_pipeline.models import Model
from flux_pipeline.models.base import are_plain_prompts
from flux_pipeline.prompts.checks import find_warnings, may_warn
from flux_pipeline.prompts.entries import NO_VALUE
from flux_pipeline.prompts.names import MAX_KEY_CHARACTERS
from flux_pipeline.prompts.yaml_document import Document

# What YAML refuses or takes for the end of a line, and the braces of placeholders.
_NEVER = r"\x00-\x1f\x7f-\xa0\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff{}"
_COMMENT_OR_BLANK = rf"[ ]*+(?:#[^{_NEVER}]*+)?\r?"
_OTHER_LINE = re.compile(rf"^{_COMMENT_OR_BLANK}$", re.MULTILINE)
_START = re.compile(
    rf"^prompts:[ ]*+\r?\n(?:{_COMMENT_OR_BLANK}\n)*+(?P<indent>[ ]++)(?=[a-z0-9])", re.MULTILINE
)
_END = re.compile(r"\n(?=[^ #\r\n])")
# A colon before a blank ends a key, and a hash behind one begins a comment.
_PLAIN = rf"[^\W_](?:[^{_NEVER}:#]++|:(?=[^ \r\n])|(?<! )#)*+(?<! )"
_QUOTED = rf"\"[^{_NEVER}\"\\]*+\"|'[^{_NEVER}']*+'"
_KEY = rf"[a-z0-9][a-z0-9_-]{{0,{MAX_KEY_CHARACTERS - 1}}}"
_PROMPT = rf"({_KEY}):[ ]++({_PLAIN}|{_QUOTED})\r?$"


@dataclass(frozen=True, slots=True)
class PromptLines:
    """The prompts of a file that has each in a line."""

    texts: Mapping[str, str]
    """By their keys, in the order of the file."""
    sample: str
    """The file with the first prompt alone; where the others stood, lines are empty."""
    line: int
    """1-based, of the first prompt."""

    def is_sample(self, document: Document) -> bool:
        """Whether a parser finds the first prompt in its place, and thus the others in theirs."""
        key, text = next(iter(self.texts.items()))
        is_alone = document.value.get("prompts") == {key: text}
        return is_alone and document.lines.get(("prompts", key)) == self.line

    def are_right(self, model: Model) -> bool:
        """Whether each text can be sent, none needs a warning, and no two are the same."""
        texts = list(self.texts.values())
        if "prompt" not in model.free_inputs or NO_VALUE in texts:
            return False
        if not are_plain_prompts(texts):
            try:
                checked = list(map(model.validator("prompt"), texts))
            except ValidationError:
                return False
            if checked != texts:
                return False
        if may_warn([model], texts) and any(any(find_warnings(model, text)) for text in texts):
            return False
        together = "\n".join(texts)
        if not together.isascii():
            texts = unicodedata.normalize("NFC", together).split("\n")
        return len(set(texts)) == len(texts)


def find_prompt_lines(text: str) -> PromptLines | None:
    """The prompts of a YAML file's text; None where they are not all in lines of their own."""
    start = _START.search(text)
    if start is None:
        return None
    begin, end = start.start("indent"), _END.search(text, start.end())
    block = text[begin : end.start() if end else len(text)].removesuffix("\n")
    pairs = re.findall(f"^{start['indent']}{_PROMPT}", block, re.MULTILINE)
    lines = block.count("\n") + 1
    if len(pairs) < lines and len(pairs) + len(_OTHER_LINE.findall(block)) < lines:
        return None
    if '"' in block or "'" in block:
        pairs = [(key, one[1:-1] if one[0] in "\"'" else one) for key, one in pairs]
    texts = dict(pairs)
    if len(texts) < len(pairs):
        return None
    first = block.partition("\n")[0]
    sample = f"{text[:begin]}{first}" + "\n" * (lines - 1) + text[begin + len(block) :]
    return PromptLines(texts, sample, text.count("\n", 0, begin) + 1)
