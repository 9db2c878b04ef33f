"""What the ledger alone tells of one request, and of a prediction that it doesn't know."""

import json
from dataclasses import replace

import pytest

from flux_pipeline.audit.findings import Finding, Kind, Verification
from flux_pipeline.audit.inventory import check_history, key_of
from flux_pipeline.audit.verify import check_unknown
from flux_pipeline.cli.verify import _text
from flux_pipeline.ledger.base import Attempt, Intent, State

SHA = "a" * 64
SUCCEEDED = json.dumps({"status": "succeeded", "reply": ""})
FAILED = json.dumps({"status": "failed", "reply": ""})


def attempt(state: State, number: int = 1, *, reply: str = "", paid: bool = True) -> Attempt:
    intent = Intent(SHA, "set", "run", 3000, "{}")
    prediction = f"p{number}" if paid else None
    return Attempt(SHA, number, state, "a", 0.0, 0.0, intent, prediction_id=prediction, reply=reply)


def unpaid(state: State, number: int = 1) -> Attempt:
    return attempt(state, number, paid=False)


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
    ("history", "expected"),
    [
        ([unpaid(State.INTENT)], None),
        ([attempt(State.FAILED), unpaid(State.INTENT, 2)], None),
        ([unpaid(State.HELD)], (Kind.HELD, SHA)),
        ([unpaid(State.UNSENT)], (Kind.LOST, "new")),
        ([unpaid(State.REFUSED)], (Kind.LOST, "new")),
        ([attempt(State.FAILED, reply=FAILED)], (Kind.LOST, "new")),
        ([unpaid(State.RESENT)], (Kind.PAID_TWICE, "new")),
        ([attempt(State.STORED)], (Kind.PAID_TWICE, "new")),
        ([attempt(State.ACCEPTED)], (Kind.PAID_TWICE, "new")),
        ([attempt(State.EXPIRED)], (Kind.PAID_TWICE, "new")),
        ([unpaid(State.UNSENT), attempt(State.STORED, 2)], (Kind.PAID_TWICE, "new")),
    ],
)
def test_a_prediction_that_only_the_list_knows_is_judged_by_its_request(
    history: list[Attempt], expected: tuple[Kind, str] | None
) -> None:
    finding = check_unknown("new", history)

    assert (None if finding is None else (finding.kind, finding.id)) == expected


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


def test_people_get_a_line_a_finding_and_the_verdict() -> None:
    found = [Finding(Kind.LOST, f"images/{number}", "it is gone") for number in range(120)]
    held = Finding(Kind.HELD, SHA, "end it")

    lines = _text(Verification(7, [held, *found], ["no list"])).splitlines()

    assert lines[0] == "lost images/0: it is gone"
    assert lines[100:] == [
        "lost: and 20 more; --json has all",
        f"held {SHA}: end it",
        "note: no list",
        "7 images, 121 findings",
    ]
    assert _text(Verification(7)) == "7 images, all agree"
    unsure = Verification(7, complete=False)
    assert _text(unsure) == "7 images, 0 findings, and not everything could be compared"
