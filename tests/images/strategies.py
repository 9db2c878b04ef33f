"""Labels of every shape, with text in every script and everything that XML and JSON dislike."""

import json
from datetime import UTC
from typing import Any

from hypothesis import strategies as st

from flux_pipeline.images.labels import Label

PIECES = [
    "a beautiful castle",
    "雪の城",
    "قلعة جميلة",
    "замок",
    "👩‍👩‍👧",
    "<script>alert(1)</script>",
    "]]>",
    "&#0;&lol;<!DOCTYPE a>",
    '"',
    "\\u0000",
    "\x00\x01\x1b[31m",
    "\r\n\t",
    "\x7f\x85\ufffe",
    "\u202e",
    " ",
]
TEXT = st.text(max_size=40) | st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXT.filter(lambda key: key != "prompt"), JSON, max_size=4)
_REST = {
    "prediction_id": st.none() | TEXT,
    "request_sha256": TEXT,
    "output_index": st.none() | st.integers(-(2**63), 2**63),
    "image_sha256": TEXT,
    "seed": st.none() | st.integers(-(2**63), 2**63),
    "run_id": TEXT,
    "prompt_set": TEXT,
    "prompt_name": TEXT,
    "partition": TEXT,
    "model": TEXT,
    "version": TEXT,
    "config_sha256": TEXT,
    "created_at": st.none() | st.datetimes(timezones=st.just(UTC)),
    "producer": TEXT,
}
INPUTS = st.just("") | OBJECTS.map(lambda found: json.dumps(found, ensure_ascii=False))
WITHOUT_PROMPT = st.builds(Label, prompt=st.none(), input=INPUTS, extra=OBJECTS, **_REST)
WITH_PROMPT = st.builds(Label, prompt=TEXT, input=TEXT | INPUTS, extra=OBJECTS, **_REST)
LABELS = WITHOUT_PROMPT | WITH_PROMPT
