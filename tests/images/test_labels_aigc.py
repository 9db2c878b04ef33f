"""The TC260:AIGC label of GB 45438-2025, ours and an upstream one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.images.labels import aigc_label

UPSTREAM = (
    '{"Label":"1","ContentProducer":"other","ProduceID":"77","ReservedCode1":"sig",'
    '"ContentPropagator":"","PropagateID":"","ReservedCode2":""}'
)


def test_own_label_has_exactly_the_form_of_the_standard() -> None:
    assert aigc_label(producer="00119144", produce_id="abc-0", upstream=None) == (
        '{"Label":"1","ContentProducer":"00119144","ProduceID":"abc-0","ReservedCode1":"",'
        '"ContentPropagator":"","PropagateID":"","ReservedCode2":""}'
    )


def test_no_producer_is_no_label() -> None:
    assert aigc_label(producer="", produce_id="abc-0", upstream=None) is None


def test_upstream_label_is_kept_and_its_propagator_filled_in() -> None:
    assert aigc_label(producer="us", produce_id="abc-0", upstream=UPSTREAM) == UPSTREAM.replace(
        '"ContentPropagator":"","PropagateID":""', '"ContentPropagator":"us","PropagateID":"abc-0"'
    )


@pytest.mark.parametrize(
    "upstream",
    [
        UPSTREAM.replace('"ContentPropagator":""', '"ContentPropagator":"them"'),
        UPSTREAM.replace('"PropagateID":""', '"PropagateID":"1"'),
        UPSTREAM.replace('"other"', '"us"'),
        "not JSON",
        "[]",
        '{"Label":1}',
        "[" * 100_000,
    ],
)
def test_upstream_label_without_room_for_us_is_kept_as_it_is(upstream: str) -> None:
    assert aigc_label(producer="us", produce_id="abc-0", upstream=upstream) == upstream


def test_upstream_label_is_kept_without_a_producer() -> None:
    for upstream in (UPSTREAM, UPSTREAM.replace('"other"', '""')):
        assert aigc_label(producer="", produce_id="", upstream=upstream) == upstream


NAMES = st.text(max_size=20)


@given(NAMES, NAMES, st.none() | NAMES | st.dictionaries(NAMES, NAMES).map(json.dumps))
def test_labelling_twice_changes_nothing(producer: str, ident: str, upstream: str | None) -> None:
    once = aigc_label(producer=producer, produce_id=ident, upstream=upstream)
    assert aigc_label(producer=producer, produce_id=ident, upstream=once) == once


@given(NAMES, NAMES, st.dictionaries(NAMES, NAMES))
def test_no_member_that_upstream_filled_in_is_changed(
    producer: str, ident: str, members: dict[str, str]
) -> None:
    found = aigc_label(producer=producer, produce_id=ident, upstream=json.dumps(members))
    assert found is not None
    kept = json.loads(found)
    assert all(kept[key] == value for key, value in members.items() if value)
