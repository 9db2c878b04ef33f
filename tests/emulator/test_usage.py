"""Usage: requests, predictions and charges, over all processes of a state."""

from pathlib import Path

import pytest

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.usage import Usage, fingerprint_key, read_usage
from tests.emulator.api import KEY, VERSION, Api, ManualClock
from tests.emulator.conftest import Start


def test_an_untouched_emulator_has_counted_nothing(start: Start) -> None:
    server, _ = start()
    usage = server.usage()
    assert (usage.creates_received, usage.creates_accepted, usage.charged_usd) == (0, 0, 0)
    assert (usage.predictions, usage.duplicates) == ((), ())


def test_every_accepted_image_is_charged(start: Start) -> None:
    server, api = start(usd_per_image=0.01)
    for seed in range(3):
        api.create(seed=seed, num_outputs=4)
    api.post(num_outputs=9)
    usage = server.usage()
    assert (usage.creates_received, usage.creates_accepted) == (4, 3)
    assert usage.distinct_inputs == 3
    assert usage.charged_usd == pytest.approx(0.12)


def test_an_input_that_was_bought_twice_is_named_with_its_ids(start: Start) -> None:
    server, api = start()
    ids = [api.create("x", seed=1)["id"], api.create("x", seed=1)["id"]]
    api.create("x", seed=2)
    (duplicate,) = server.usage().duplicates
    assert list(duplicate.ids) == ids
    assert server.usage().distinct_inputs == 2


def test_what_the_model_does_not_know_does_not_make_an_input_distinct(start: Start) -> None:
    server, api = start()
    api.create("x", seed=1)
    api.create("x", seed=1, typo=True)
    assert len(server.usage().duplicates) == 1


def test_predictions_are_listed_in_order_with_their_status(
    start: Start, clock: ManualClock
) -> None:
    server, api = start(time_scale=1)
    made = api.create("x", seed=1)["id"]
    (prediction,) = server.usage().predictions
    assert (prediction.id, prediction.status) == (made, "starting")
    assert (prediction.version, prediction.input) == (VERSION, {"prompt": "x", "seed": 1})
    assert prediction.created_at == clock.now
    clock.advance(10)
    assert server.usage().predictions[0].status == "succeeded"


def test_the_input_is_kept_that_the_api_shows_no_more(start: Start, clock: ManualClock) -> None:
    server, api = start()
    api.create("x")
    clock.advance(10_000)
    assert server.usage().predictions[0].input == {"prompt": "x"}
    assert server.usage().predictions[0].status == "succeeded"


def test_keys_are_counted_by_host_and_by_route_and_never_kept(start: Start, tmp_path: Path) -> None:
    server, api = start(state_dir=tmp_path)
    done = api.finished()
    api.download(done["output"][0])
    usage = server.usage()
    mine, host = fingerprint_key(KEY), server.origin.removeprefix("http://")
    assert usage.keys_by_host == {host: {mine: 2}}
    assert set(usage.keys_by_route) == {"POST /v1/predictions", "GET /v1/predictions/{id}"}
    assert all(KEY.encode() not in file.read_bytes() for file in tmp_path.iterdir())


def test_a_key_that_is_sent_to_an_output_is_seen(start: Start) -> None:
    server, api = start()
    api.http.get(api.finished()["output"][0])
    assert server.usage().keys_by_route["GET /output/{id}"] == {fingerprint_key(KEY): 1}


def test_requests_are_counted_by_route(start: Start) -> None:
    server, api = start()
    made = api.create()["id"]
    for _ in range(3):
        api.get(made)
    api.cancel(made)
    api.list()
    assert server.usage().requests_by_route == {
        "POST /v1/predictions": 1,
        "GET /v1/predictions/{id}": 3,
        "POST /v1/predictions/{id}/cancel": 1,
        "GET /v1/predictions": 1,
    }


def test_it_is_read_over_http_without_a_key_and_without_being_counted(start: Start) -> None:
    server, api = start()
    api.create()
    for query, predictions in (("", 0), ("?predictions=1", 1)):
        reply = api.files.get(f"{server.origin}/_emulator/ledger{query}")
        usage = Usage.model_validate_json(reply.content)
        assert len(usage.predictions) == predictions
        assert usage.creates_accepted == 1
    assert len(server.usage().requests_by_route) == 1


def test_it_is_read_from_the_directory_when_the_process_has_ended(
    start: Start, tmp_path: Path, clock: ManualClock
) -> None:
    server, api = start(FaultPlan(create={"reset_after": 1.0}), state_dir=tmp_path / "state")
    with pytest.raises(Exception, match="reset"):
        api.post()
    living = server.usage()
    server.stop()
    assert read_usage(tmp_path / "state", now=clock.now) == living
    assert living.faults == {"create.reset_after": 1}
    assert read_usage(tmp_path / "state", predictions=False).predictions == ()


def test_a_directory_without_a_state_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no emulator state"):
        read_usage(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_hosts_of_one_emulator_are_told_apart(start: Start) -> None:
    server, api = start()
    other = Api(server.origin.replace("127.0.0.1", "localhost"), key="second")
    api.create(seed=1)
    other.create(seed=2)
    hosts = server.usage().keys_by_host
    assert {host.split(":")[0]: list(keys) for host, keys in hosts.items()} == {
        "127.0.0.1": [fingerprint_key(KEY)],
        "localhost": [fingerprint_key("second")],
    }
    other.close()
