"""What is held, and the three ways in which a person ends it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from flux_pipeline.audit.findings import Kind
from flux_pipeline.audit.held import Adopted, Held, adopt, choose, drop, find_held, resend
from flux_pipeline.audit.rescue import rescue
from flux_pipeline.audit.verify import verify
from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.errors import LedgerError, ProviderError
from flux_pipeline.ledger.base import State
from flux_pipeline.lineage.query import find_exact, open_snapshot
from flux_pipeline.lineage.record import ImageStatus
from flux_pipeline.produce.report import Tally
from flux_pipeline.request import Request
from tests.audit.unfinished import accept, create, intend
from tests.produce.pipeline import POLICY, QUICK, Pipeline, change_ledger, keys, make_requests

Open = Callable[..., Pipeline]
NO_LIST = QUICK.model_copy(update={"list_enabled": False})


@pytest.fixture
def pipeline(open_pipeline: Open) -> Pipeline:
    """Every first answer is lost, there is no list, and nothing is sent again unasked."""
    plan = FaultPlan(create={"reset_after": 1.0}, cap=1)
    return open_pipeline(plan, NO_LIST, policy=replace(POLICY, unknown="hold"))


def hold(pipeline: Pipeline, count: int = 1, **inputs: object) -> list[Request]:
    requests = make_requests(count, **inputs)
    tally = pipeline.run(requests)
    assert tally.held == tally.asked
    pipeline.reopen()
    return requests


def paid_id(pipeline: Pipeline, request: Request) -> str:
    """What a person finds at the provider."""
    for each in pipeline.server.usage().predictions:
        if each.input["seed"] == request.seed:
            return each.id
    raise AssertionError("nothing was paid")


def take(
    pipeline: Pipeline, request: Request, prediction_id: str, *, force: bool = False
) -> Adopted:
    sha = request.request_sha256
    return adopt(pipeline.producer, sha, prediction_id, run_id="adopt-1", force=force)


def state_of(pipeline: Pipeline, request: Request) -> State:
    return pipeline.ledger.find([request.request_sha256])[request.request_sha256].state


def test_nothing_is_held_at_first(pipeline: Pipeline) -> None:
    assert find_held(pipeline.ledger) == []


def test_what_is_held_is_shown_with_prompt_time_and_cost(pipeline: Pipeline) -> None:
    (request,) = hold(pipeline, num_outputs=2)

    (held,) = find_held(pipeline.ledger)

    assert held.request_sha256 == request.request_sha256
    assert held.prompt == "prompt 0"
    assert held.usd == pytest.approx(0.006)
    assert held.since.tzinfo is not None
    assert held.attempt.error is not None


def test_a_request_that_can_not_be_read_is_shown_all_the_same(pipeline: Pipeline) -> None:
    (request,) = hold(pipeline)
    change_ledger(pipeline, "UPDATE flux_attempts SET request_json = ''")

    (held,) = find_held(pipeline.ledger)

    assert (held.request_sha256, held.prompt) == (request.request_sha256, "")
    assert drop(pipeline.ledger, [held]) == [held]


def test_an_adopted_prediction_is_finished_and_nothing_is_paid_again(pipeline: Pipeline) -> None:
    (request,) = hold(pipeline, num_outputs=2)

    done = take(pipeline, request, paid_id(pipeline, request))

    assert done.state is State.ACCEPTED
    assert dict(done.rescued.states) == {State.STORED: 1}
    assert find_held(pipeline.ledger) == []
    assert verify(pipeline.producer, deep=True).ok
    assert pipeline.run([request]) == Tally(asked=2, unchanged=2)
    assert pipeline.created == 1


@pytest.mark.parametrize("force", [False, True])
def test_a_prediction_of_another_input_is_adopted_by_force_alone(
    pipeline: Pipeline, *, force: bool
) -> None:
    first, second = hold(pipeline, 2)
    other = paid_id(pipeline, second)

    if force:
        take(pipeline, first, other, force=True)
        assert state_of(pipeline, first) is State.STORED
    else:
        with pytest.raises(ProviderError, match="it was made of another input; `--force`"):
            take(pipeline, first, other)
        assert state_of(pipeline, first) is State.HELD


def test_another_model_setting_is_another_input(pipeline: Pipeline) -> None:
    (request,) = hold(pipeline)
    (finer,) = hold(pipeline, num_inference_steps=8)
    paid = {
        each.input.get("num_inference_steps"): each.id
        for each in pipeline.server.usage().predictions
    }

    with pytest.raises(ProviderError, match="another input"):
        take(pipeline, request, paid[8])
    with pytest.raises(ProviderError, match="doesn't show its whole input"):
        take(pipeline, finer, paid[None])


def test_a_prediction_that_the_provider_does_not_know_is_refused(pipeline: Pipeline) -> None:
    (request,) = hold(pipeline)

    with pytest.raises(ProviderError, match="the provider doesn't know it"):
        take(pipeline, request, "nosuchprediction")
    assert state_of(pipeline, request) is State.HELD


def test_a_prediction_that_the_provider_does_not_show_is_open_by_force_until_it_must_be_gone(
    pipeline: Pipeline,
) -> None:
    (request,) = hold(pipeline)
    pipeline.policy = replace(pipeline.policy, gone_patience=0.1)

    done = take(pipeline, request, "nosuchprediction", force=True)

    assert dict(done.rescued.states) == {State.ACCEPTED: 1}
    assert "paid, not stored yet" in next(done.rescued.reasons.lines(1))
    pipeline.reopen(later=2 * 3600.0)
    rescue(pipeline.producer, run_id="rescue-1", older_than=0.0)
    assert state_of(pipeline, request) is State.EXPIRED
    assert verify(pipeline.producer).ids(Kind.LOST) == ["nosuchprediction"]


def test_a_prediction_that_was_believed_gone_is_adopted_again(pipeline: Pipeline) -> None:
    """By its own id, which the ledger knows: it is asked for once more, and nothing is created."""
    (request,) = hold(pipeline)
    paid = paid_id(pipeline, request)
    take(pipeline, request, paid)
    (pipeline.folder / "store" / keys(pipeline, "images/")[0]).unlink()
    change_ledger(pipeline, "UPDATE flux_attempts SET state = 'expired', images = '[]'")
    pipeline.reopen()

    done = take(pipeline, request, paid)

    assert (done.state, dict(done.rescued.states)) == (State.ACCEPTED, {State.STORED: 1})
    assert (state_of(pipeline, request), pipeline.created) == (State.STORED, 1)
    with pytest.raises(LedgerError, match="in the ledger already"):
        take(pipeline, request, paid)


def test_what_shows_no_input_any_more_is_adopted_by_force_alone(open_pipeline: Open) -> None:
    pipeline = open_pipeline(
        FaultPlan(create={"reset_after": 1.0}, cap=1),
        NO_LIST.model_copy(update={"retention_seconds": 0.0}),
        policy=replace(POLICY, unknown="hold"),
    )
    (request,) = hold(pipeline)

    with pytest.raises(ProviderError, match="doesn't show its whole input any more"):
        take(pipeline, request, paid_id(pipeline, request))


def test_without_an_answer_of_the_provider_nothing_is_adopted(pipeline: Pipeline) -> None:
    (request,) = hold(pipeline)
    pipeline.server.origin = "http://127.0.0.1:9"

    with pytest.raises(ProviderError, match="the provider gave no answer"):
        take(pipeline, request, "someprediction")


@pytest.mark.parametrize("wrong", ["", "../x", "a b", "x" * 256])
def test_what_can_not_be_an_id_is_refused_by_force_too(pipeline: Pipeline, wrong: str) -> None:
    (request,) = hold(pipeline)

    with pytest.raises(ProviderError, match="can't be a prediction's id"):
        take(pipeline, request, wrong, force=True)


def test_one_prediction_is_adopted_once(pipeline: Pipeline) -> None:
    first, second = hold(pipeline, 2)
    paid = paid_id(pipeline, first)
    take(pipeline, first, paid)

    with pytest.raises(LedgerError, match="in the ledger already"):
        take(pipeline, second, paid, force=True)


def test_an_unknown_request_is_said_to_be_unknown(pipeline: Pipeline) -> None:
    (request,) = make_requests(1)

    with pytest.raises(LedgerError, match="no request"):
        take(pipeline, request, "someprediction")


def test_a_request_under_way_is_left_to_its_run(pipeline: Pipeline) -> None:
    (request,) = make_requests(1)
    intend(pipeline, request)

    with pytest.raises(LedgerError, match="is under way"):
        take(pipeline, request, "someprediction")


def test_what_was_resent_and_then_found_is_noted_as_paid_twice(pipeline: Pipeline) -> None:
    (request,) = hold(pipeline)
    first = paid_id(pipeline, request)
    resend(pipeline.ledger, find_held(pipeline.ledger))
    pipeline.run([request])
    assert verify(pipeline.producer).ids(Kind.PAID_TWICE) == [request.request_sha256]

    done = take(pipeline, request, first)

    assert (done.state, done.rescued.found) == (State.DUPLICATE, 0)
    assert verify(pipeline.producer).ids(Kind.PAID_TWICE) == [first]
    assert state_of(pipeline, request) is State.STORED


def test_what_was_resent_and_not_sent_yet_can_still_be_adopted(pipeline: Pipeline) -> None:
    (request,) = hold(pipeline)
    resend(pipeline.ledger, find_held(pipeline.ledger))

    assert take(pipeline, request, paid_id(pipeline, request)).state is State.ACCEPTED

    assert pipeline.run([request]) == Tally(asked=1, unchanged=1)
    assert pipeline.created == 1
    assert verify(pipeline.producer).ok


def test_a_second_prediction_of_a_stored_request_is_noted(open_pipeline: Open) -> None:
    pipeline = open_pipeline()
    (request,) = make_requests(1)
    pipeline.run([request])
    second = create(pipeline, request).id
    assert verify(pipeline.producer).ids(Kind.PAID_TWICE) == [second]

    assert take(pipeline, request, second).state is State.DUPLICATE
    assert verify(pipeline.producer).ids(Kind.PAID_TWICE) == [second]
    assert state_of(pipeline, request) is State.STORED


def test_what_the_next_run_sends_again_is_paid_again_and_said(pipeline: Pipeline) -> None:
    requests = hold(pipeline, 2)
    held = find_held(pipeline.ledger)

    assert resend(pipeline.ledger, held) == held

    assert find_held(pipeline.ledger) == []
    assert pipeline.created == 2
    assert pipeline.run(requests).stored == 2
    assert pipeline.created == 4
    twice = verify(pipeline.producer).ids(Kind.PAID_TWICE)
    assert set(twice) == {each.request_sha256 for each in requests}


def test_what_is_dropped_is_never_sent_again_and_named(pipeline: Pipeline) -> None:
    (request,) = hold(pipeline, num_outputs=2)
    held = find_held(pipeline.ledger)

    assert drop(pipeline.ledger, held) == held

    tally = pipeline.run([request])
    assert (tally.failed, tally.created, pipeline.created) == (2, 0, 1)
    found = find_exact(open_snapshot(pipeline.store), "request_sha256", request.request_sha256)
    assert [
        (row.output_index, row.status) for row in sorted(found, key=lambda r: r.output_index)
    ] == [
        (0, ImageStatus.FAILED),
        (1, ImageStatus.FAILED),
    ]
    assert all((row.error or "").startswith("dropped by hand") for row in found)
    assert verify(pipeline.producer).ok
    assert keys(pipeline, "images/") == []


@pytest.mark.parametrize("end", [resend, drop])
def test_what_changed_meanwhile_is_not_ended_again(
    pipeline: Pipeline, end: Callable[..., list[Held]]
) -> None:
    hold(pipeline, 2)
    first, second = find_held(pipeline.ledger)
    drop(pipeline.ledger, [first])

    assert end(pipeline.ledger, [first, second]) == [second]


def test_only_what_is_held_is_ended(open_pipeline: Open) -> None:
    pipeline = open_pipeline()
    accept(pipeline, make_requests(1)[0])

    assert find_held(pipeline.ledger) == []


def test_requests_are_chosen_by_the_beginning_of_their_fingerprints(pipeline: Pipeline) -> None:
    hold(pipeline, 3)
    held = find_held(pipeline.ledger)
    first, _, third = (each.request_sha256 for each in held)

    assert choose(held, []) == (held, [])
    assert choose(held, [first[:12], third.upper(), first]) == ([held[0], held[2]], [])
    assert choose(held, ["", "zz", third]) == ([held[2]], ["", "zz"])
