"""The fingerprint of a request: the RFC 8785 form of its cause, whoever writes it."""

import hashlib
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from flux_pipeline.request import Fingerprints, canonical_json, fingerprint

WHOLE = st.integers(-(2**53) + 1, 2**53 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [0.0, -0.0, 1.0, 1e16, 1e-4, 9.999e-5, 1e21, 1e-7, 123456789012345680.0, 0.1, 2.5e15]
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | WHOLE | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(TEXTS, JSON, max_size=6))
@example({"\ufb33": 1, "\U0001f600": 2, "a": 3})
@example({"a": '\x00\x1f\x7f\u2028\\"/'})
def test_the_canonical_form_is_the_librarys_to_the_byte(value: dict[str, object]) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53])
def test_a_number_without_a_canonical_form_is_refused(value: float) -> None:
    with pytest.raises(rfc8785.CanonicalizationError):
        canonical_json({"a": value})


def test_a_fingerprint_made_before_takes_and_days_stays_as_it_was() -> None:
    values = {"prompt": "a castle", "lora_scale": 0.8, "num_outputs": 1}
    cause = rfc8785.dumps({"version": "f" * 64, "input": values})
    assert fingerprint("f" * 64, values) == hashlib.sha256(cause).hexdigest()
    assert len({fingerprint("f" * 64, values, take=take) for take in (1, 2)}) == 2


@given(st.dictionaries(TEXTS, JSON, min_size=1, max_size=6), st.data())
def test_fingerprints_with_a_few_values_put_in_are_those_of_the_whole_inputs(
    values: dict[str, Any], data: st.DataObject
) -> None:
    names = data.draw(st.sets(st.sampled_from(sorted(values)), max_size=3))
    other = {name: data.draw(TEXTS | WHOLE) for name in names}
    more = data.draw(
        st.sampled_from([{}, {"take": 2}, {"day": "2026-11-02"}, {"take": 3, "day": "d"}])
    )
    found = Fingerprints("f" * 64, values, names).find(other, **more)
    assert found == fingerprint("f" * 64, {**values, **other}, **more)
