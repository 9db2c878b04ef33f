"""Findings in the history of one request, and keys in URIs of a store that was moved."""

from dataclasses import replace

import pytest

from flux_pipeline.audit.findings import Kind
from flux_pipeline.audit.inventory import check_history, key_of
from flux_pipeline.ledger.base import Attempt, State
from tests.audit.attempts import FAILED, SHA, SUCCEEDED, attempt, unpaid


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([attempt(State.STORED)], {}),
        ([unpaid(State.INTENT)], {}),
        ([attempt(State.ACCEPTED)], {}),
        ([attempt(State.SUCCEEDED)], {}),
        ([unpaid(State.UNSENT)], {}),
        ([unpaid(State.REFUSED)], {}),
        ([attempt(State.REFUSED, reply=FAILED)], {}),
        ([attempt(State.FAILED, reply=FAILED), attempt(State.STORED, 2)], {}),
        ([unpaid(State.FAILED)], {}),
        ([unpaid(State.HELD)], {Kind.HELD: SHA}),
        ([attempt(State.EXPIRED)], {Kind.LOST: "p1"}),
        ([attempt(State.FAILED, reply=SUCCEEDED)], {Kind.LOST: "p1"}),
        ([attempt(State.FAILED, reply="[]")], {}),
        ([attempt(State.FAILED, reply="nonsense")], {}),
        ([replace(attempt(State.EXPIRED), prediction_id=None)], {Kind.LOST: SHA}),
        ([attempt(State.EXPIRED), unpaid(State.INTENT, 2)], {}),
        ([attempt(State.EXPIRED), unpaid(State.UNSENT, 2)], {Kind.LOST: "p1"}),
        ([attempt(State.EXPIRED), attempt(State.STORED, 2)], {Kind.PAID_TWICE: "p1"}),
        ([attempt(State.EXPIRED), attempt(State.ACCEPTED, 2)], {Kind.PAID_TWICE: "p1"}),
        (
            [attempt(State.EXPIRED), attempt(State.DUPLICATE, 2)],
            {Kind.LOST: "p1", Kind.PAID_TWICE: "p2"},
        ),
        ([unpaid(State.RESENT), attempt(State.STORED, 2)], {Kind.PAID_TWICE: SHA}),
        ([attempt(State.STORED), attempt(State.DUPLICATE, 2)], {Kind.PAID_TWICE: "p2"}),
        ([replace(attempt(State.STORED), images="{}")], {Kind.UNREADABLE: SHA}),
    ],
)
def test_the_history_of_a_request_is_judged(
    history: list[Attempt], expected: dict[Kind, str]
) -> None:
    assert {finding.kind: finding.id for finding in check_history(history)} == expected


def test_what_is_paid_twice_at_a_second_time_is_lost_only_once() -> None:
    history = [attempt(State.EXPIRED), attempt(State.EXPIRED, 2)]

    assert [(each.kind, each.id) for each in check_history(history)] == [
        (Kind.PAID_TWICE, "p1"),
        (Kind.LOST, "p2"),
    ]


@pytest.mark.parametrize(
    ("uri", "key"),
    [
        ("s3://bucket/prefix/images/set/a-0.jpg", "images/set/a-0.jpg"),
        ("s3://other/images/set/a-0.jpg", "images/set/a-0.jpg"),
        ("file:///old%20home/store/images/images/a-0.jpg", "images/images/a-0.jpg"),
        ("s3://bucket/prefix/images", "images"),
        ("https://elsewhere/picture.jpg", "https://elsewhere/picture.jpg"),
        ("picture.jpg", "picture.jpg"),
    ],
)
def test_a_key_is_found_in_an_address_of_the_same_store_elsewhere(uri: str, key: str) -> None:
    assert key_of(uri, "s3://bucket/prefix") == key
