"""Get, list and cancel: what they show, in which order, and for how long."""

from datetime import UTC, datetime

import httpx
import pytest

from flux_pipeline.emulator.faults import FaultPlan
from tests.emulator.api import Api, ManualClock
from tests.emulator.conftest import Start


def at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def ids(page: dict[str, list[dict[str, str]]]) -> list[str]:
    return [prediction["id"] for prediction in page["results"]]


def test_states_follow_the_clock(start: Start, clock: ManualClock) -> None:
    _, api = start(time_scale=1, latency_median=10, latency_spread=0)
    made = api.create()
    assert made["status"] == "starting"
    clock.advance(2.1)
    assert api.get(made["id"])["status"] == "processing"
    clock.advance(7.9)
    done = api.get(made["id"])
    assert done["status"] == "succeeded"
    assert done["metrics"] == {"predict_time": 8.0, "total_time": 10.0, "image_count": 1}
    assert done["created_at"] < done["started_at"] < done["completed_at"]


def test_an_unknown_id_is_not_found(start: Start) -> None:
    _, api = start()
    assert api.fetch("x" * 26).status_code == 404
    assert api.cancel("x" * 26).status_code == 404


def test_without_a_seed_the_one_drawn_is_in_the_logs(start: Start) -> None:
    _, api = start()
    first, *rest = api.finished()["logs"].splitlines()
    assert first.startswith("Using seed: ")
    assert 0 <= int(first.removeprefix("Using seed: ")) < 65536
    assert rest


def test_with_a_seed_the_logs_name_none(start: Start) -> None:
    _, api = start()
    assert "seed" not in api.finished(seed=7)["logs"]


def test_the_list_is_newest_first_and_holds_the_whole_input(
    start: Start, clock: ManualClock
) -> None:
    _, api = start()
    made = []
    for number in range(3):
        made.append(api.create("a castle", seed=number)["id"])
        clock.advance(1)
    page = api.list()
    assert ids(page) == made[::-1]
    assert page["results"][0]["input"] == {"prompt": "a castle", "seed": 2}
    assert (page["next"], page["previous"]) == (None, None)


def test_the_list_pages_by_a_cursor_on_the_trap(start: Start) -> None:
    _, api = start(page_size=2)
    made = [api.create(seed=number)["id"] for number in range(5)]
    seen, page = [], api.list()
    while True:
        seen += ids(page)
        if page["next"] is None:
            break
        url = httpx.URL(page["next"])
        assert (url.host, url.path) == ("trap.invalid", api.path)
        page = api.list(**dict(url.params.multi_items()))
    assert seen == made[::-1]


def test_the_next_page_keeps_the_window(start: Start, clock: ManualClock) -> None:
    _, api = start(page_size=1)
    early = api.create()["id"]
    clock.advance(10)
    api.create()
    api.create()
    after = at(clock.now - 1)
    link = httpx.URL(api.list(created_after=after)["next"])
    assert link.params["created_after"] == after
    assert early not in ids(api.list(**dict(link.params.multi_items())))


def test_created_after_and_before_are_exclusive_bounds(start: Start, clock: ManualClock) -> None:
    _, api = start()
    moments = {}
    for _ in range(3):
        moments[clock.now] = api.create()["id"]
        clock.advance(10)
    first, second, third = moments
    assert ids(api.list(created_after=at(first))) == [moments[third], moments[second]]
    assert ids(api.list(created_before=at(third))) == [moments[second], moments[first]]
    assert ids(api.list(created_after=at(first), created_before=at(third))) == [moments[second]]


@pytest.mark.parametrize(
    "query", [{"created_after": "yesterday"}, {"cursor": "!"}, {"created_before": ""}]
)
def test_an_unreadable_window_is_refused(start: Start, query: dict[str, str]) -> None:
    _, api = start()
    assert api.http.get(api.path, params=query).status_code == 400


def test_a_cursor_far_outside_is_an_empty_page(start: Start) -> None:
    _, api = start()
    api.create()
    assert ids(api.list(cursor="LTk5OTk5OTk5OTk5OTk5OTk5OTk5OQ==")) == []


def test_an_aggregator_has_no_list(start: Start) -> None:
    _, api = start(list_enabled=False)
    api.create()
    assert api.http.get(api.path).status_code == 404


def test_the_list_shows_a_prediction_late(start: Start, clock: ManualClock) -> None:
    _, api = start(list_delay_seconds=10)
    made = api.create()["id"]
    clock.advance(9.9)
    assert ids(api.list()) == []
    assert api.get(made)["id"] == made
    clock.advance(0.1)
    assert ids(api.list()) == [made]


def test_a_running_prediction_can_be_cancelled(start: Start, clock: ManualClock) -> None:
    _, api = start(time_scale=1)
    made = api.create()["id"]
    assert api.cancel(made).json()["status"] == "canceled"
    clock.advance(60)
    after = api.get(made)
    assert (after["status"], after["output"]) == ("canceled", None)


def test_cancelling_what_has_succeeded_changes_nothing(start: Start) -> None:
    _, api = start()
    reply = api.cancel(api.create()["id"])
    assert (reply.status_code, reply.json()["status"]) == (200, "succeeded")


def test_cancelling_what_has_ended_can_be_refused(start: Start) -> None:
    _, api = start(cancel_finished="refused")
    assert api.cancel(api.create()["id"]).status_code == 422


@pytest.mark.parametrize(
    ("seconds", "status"), [("1", "aborted"), ("5s", "canceled"), ("1m", "succeeded")]
)
def test_cancel_after_stops_it_before_or_while_it_runs(
    start: Start, clock: ManualClock, seconds: str, status: str
) -> None:
    _, api = start(time_scale=1, latency_median=10, latency_spread=0)
    made = api.post(headers={"Cancel-After": seconds}).json()["id"]
    clock.advance(20)
    assert api.get(made)["status"] == status


def test_after_the_retention_nothing_is_left_but_the_status(
    start: Start, clock: ManualClock
) -> None:
    _, api = start(retention_seconds=3600)
    done = api.finished()
    clock.advance(3599)
    assert api.download(done["output"][0]).status_code == 200
    clock.advance(1)
    gone = api.get(done["id"])
    assert gone["status"] == "succeeded"
    assert (gone["data_removed"], gone["input"], gone["output"], gone["logs"]) == (
        True,
        {},
        None,
        "",
    )
    assert api.download(done["output"][0]).status_code == 404


def test_timestamps_have_three_to_nine_fractional_digits(start: Start) -> None:
    _, api = start()
    made = [api.create(seed=number)["created_at"] for number in range(40)]
    assert {len(text.split(".")[1]) - 1 for text in made} == {3, 6, 9}
    assert all(datetime.fromisoformat(text).tzinfo for text in made)


def test_reading_does_not_count_as_a_read_while_it_runs(start: Start, clock: ManualClock) -> None:
    _, api = start(FaultPlan(outcome={"null_output_once": 1.0}), time_scale=1)
    made = api.create()["id"]
    api.get(made)
    clock.advance(60)
    assert api.get(made)["output"] is None
    assert api.get(made)["output"]


def test_two_clients_see_one_api(start: Start) -> None:
    server, api = start()
    made = api.create()["id"]
    other = Api(server.origin, prefix="/replicate/v1", key="another")
    assert other.get(made)["id"] == made
    other.close()
