"""A reproduction beside its original: paid once, kept apart, compared."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from flux_pipeline.audit.rescue import rescue
from flux_pipeline.audit.verify import verify
from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.errors import ConfigError, LedgerError
from flux_pipeline.ledger.base import State
from flux_pipeline.lineage.query import find_exact, open_snapshot
from flux_pipeline.lineage.record import ImageRecord, original_request
from flux_pipeline.produce.budgets import Limits
from flux_pipeline.prompts import PromptSet, build_prompt_set
from flux_pipeline.provenance.reproduce import (
    Plan,
    Reproduction,
    Verdict,
    as_json,
    plan_reproduction,
    reproduce,
    write_report,
)
from flux_pipeline.request import Request
from tests.audit.leftovers import accept, create, intend
from tests.produce.conftest import QUICK, Bench, make_requests
from tests.produce.test_producer import change_ledger, keys

Open = Callable[..., Bench]
TOKEN = "hf_0123456789abcdefghijABCDEFGHIJ"
LOSSY = FaultPlan(create={"reset_after": 1.0}, cap=9)
LORA = f"https://civitai.com/weights/x.safetensors?token={TOKEN}"


def no_set(name: str) -> PromptSet:
    raise AssertionError(f"{name} was not needed")


def row_of(bench: Bench, request: Request) -> ImageRecord:
    return find_exact(open_snapshot(bench.store), "request_sha256", request.request_sha256)[0]


def plan(bench: Bench, request: Request, load_set: Callable[[str], PromptSet] = no_set) -> Plan:
    snapshot = open_snapshot(bench.store)
    return plan_reproduction(snapshot, bench.store, row_of(bench, request), load_set)


def make_again(bench: Bench, request: Request, run_id: str = "again") -> Reproduction:
    done = reproduce(bench.producer, plan(bench, request), run_id=run_id)
    write_report(bench.store, done)
    return done


def made(bench: Bench, count: int = 1, **inputs: object) -> list[Request]:
    requests = make_requests(count, **inputs)
    assert bench.run(requests).complete
    return requests


def test_the_same_input_is_sent_again_to_the_letter_and_compared(bench: Bench) -> None:
    (request,) = made(bench, num_outputs=2, lora_scale=1.0)
    before = row_of(bench, request)

    done = make_again(bench, request)

    assert (done.verdict, done.created, done.take, done.finished) == ("identical", 1, 1, True)
    assert [image.distance for image in done.images] == [0, 0]
    assert done.usd == pytest.approx(0.006)
    first, second = bench.server.ledger().predictions
    assert first.input == second.input
    assert first.id != second.id == done.prediction
    assert row_of(bench, request) == before
    assert verify(bench.producer, deep=True).ok


def test_its_rows_and_objects_are_its_own_and_say_what_they_are(bench: Bench) -> None:
    (request,) = made(bench)

    done = make_again(bench, request)

    (row,) = find_exact(open_snapshot(bench.store), "request_sha256", done.request)
    assert original_request(row) == request.request_sha256
    assert (row.prompt_set, row.prompt_name) == ("set", "prompt-0 (reproduction)")
    assert (row.take, row.seed, row.run_id) == (1, 0, "again")
    images = keys(bench, "images/")
    assert len(images) == 2
    assert any("prompt-0-reproduction-" in key for key in images)
    assert original_request(row_of(bench, request)) is None


def test_every_call_is_another_take_and_the_original_s_own_run_costs_nothing(bench: Bench) -> None:
    (request,) = made(bench)

    takes = [make_again(bench, request).take for _ in range(3)]

    assert takes == [1, 2, 3]
    assert bench.created == 4
    assert bench.run([request]).unchanged == 1
    reports = keys(bench, "reproductions/")
    assert len(reports) == 3
    assert json.loads(bench.store.get(reports[0]))["verdict"] == "identical"


def test_of_a_reproduction_the_original_is_made_again(bench: Bench) -> None:
    (request,) = made(bench)
    first = make_again(bench, request)
    (row,) = find_exact(open_snapshot(bench.store), "request_sha256", first.request)

    planned = plan_reproduction(open_snapshot(bench.store), bench.store, row, no_set)

    assert (planned.original, planned.request.source.take) == (request.request_sha256, 2)


class TestInterrupted:
    def test_what_was_accepted_is_resumed_by_id(self, bench: Bench) -> None:
        (request,) = made(bench)
        accepted = accept(bench, plan(bench, request).request)

        done = make_again(bench, request)

        assert (done.prediction, done.created, done.usd) == (accepted.id, 0, 0.0)
        assert (done.verdict, bench.created) == ("identical", 2)

    def test_what_was_never_sent_is_sent_once(self, bench: Bench) -> None:
        (request,) = made(bench)
        intend(bench, plan(bench, request).request)

        assert make_again(bench, request).created == 1
        assert bench.created == 2

    def test_what_was_sent_and_never_answered_is_found_in_the_list(self, bench: Bench) -> None:
        (request,) = made(bench)
        again = plan(bench, request).request
        intend(bench, again)
        sent = create(bench, again)

        done = make_again(bench, request)

        assert (done.prediction, done.created, bench.created) == (sent.id, 0, 2)

    def test_it_is_no_second_payment_of_the_original(self, bench: Bench) -> None:
        (request,) = made(bench)
        again = plan(bench, request).request
        intend(bench, again)
        create(bench, again)

        assert verify(bench.producer).ok

    def test_what_a_rescue_finished_is_compared_and_not_paid_again(self, bench: Bench) -> None:
        (request,) = made(bench)
        accept(bench, plan(bench, request).request)
        assert rescue(bench.producer, run_id="rescue", older_than=0).complete

        done = make_again(bench, request)

        assert (done.created, done.take, done.verdict) == (0, 1, "identical")
        assert "made already" in done.notes[0]
        assert bench.created == 2

    def test_what_was_not_reported_is_compared_again_for_nothing(self, bench: Bench) -> None:
        (request,) = made(bench)
        reproduce(bench.producer, plan(bench, request), run_id="one")

        done = reproduce(bench.producer, plan(bench, request), run_id="two")

        assert (done.created, done.take, bench.created) == (0, 1, 2)


class TestLostAnswers:
    """The original has the very input that is looked for in the provider's list."""

    @pytest.fixture
    def lossy(self, open_bench: Open) -> Bench:
        """Every answer to a create is lost; the original's was, too."""
        return open_bench(LOSSY, has_list=True)

    def test_the_original_is_not_taken_for_the_reproduction(self, lossy: Bench) -> None:
        (request,) = made(lossy)
        original = row_of(lossy, request).prediction_id

        done = make_again(lossy, request)

        paid = [each.id for each in lossy.server.ledger().predictions]
        assert done.prediction in paid
        assert done.prediction != original
        assert len(paid) == 2
        assert lossy.server.ledger().faults["create.reset_after"] == 2

    def test_not_even_where_the_ledger_was_lost(self, open_bench: Open) -> None:
        bench = open_bench(LOSSY, has_list=True)
        (request,) = made(bench)
        original = row_of(bench, request).prediction_id
        change_ledger(bench, "DELETE FROM flux_attempts")
        bench.reopen()

        done = make_again(bench, request)

        assert done.prediction != original
        assert bench.ledger.known_ids([str(original)]) == {original}
        assert bench.created == 2

    def test_nor_where_the_ledger_knows_another_prediction_of_it(self, bench: Bench) -> None:
        (request,) = made(bench)
        original = str(row_of(bench, request).prediction_id)
        change_ledger(bench, "UPDATE flux_attempts SET prediction_id = 'another'")
        bench.reopen()
        planned = plan(bench, request)
        intend(bench, planned.request)  # sent, perhaps; in fact never

        done = reproduce(bench.producer, planned, run_id="again")

        assert original in planned.others
        assert done.prediction != original
        assert done.created == 1

    def test_without_a_list_it_is_held_and_never_sent_again(self, open_bench: Open) -> None:
        (request,) = made(open_bench())
        bench = open_bench(LOSSY, QUICK.model_copy(update={"list_enabled": False}))

        for _ in range(2):
            done = make_again(bench, request)
            assert (done.verdict, done.finished) == ("failed", False)
            assert "held" in done.images[0].reason
            assert bench.created == 1
        assert bench.ledger.find([done.request])[done.request].state is State.HELD
        assert keys(bench, "reproductions/") == []


def test_another_picture_is_called_different(bench: Bench) -> None:
    (request,) = made(bench)
    planned = plan(bench, request)
    (original,) = planned.originals
    far = replace(original, image_sha256="0" * 64, dhash=(original.dhash or 0) ^ (2**64 - 1))
    near = replace(original, image_sha256="0" * 64, dhash=(original.dhash or 0) ^ 0b111)

    verdicts = []
    for row in (far, near):
        done = reproduce(bench.producer, replace(planned, originals=(row,)), run_id="again")
        verdicts.append((done.verdict, done.images[0].distance))

    assert verdicts == [(Verdict.DIFFERENT, 64), (Verdict.SIMILAR, 3)]


def test_over_budget_nothing_is_sent_and_the_take_stays_open(bench: Bench) -> None:
    (request,) = made(bench)

    done = reproduce(
        bench.producer, plan(bench, request), run_id="again", limits=Limits(usd_per_day=0.001)
    )

    assert (done.verdict, done.finished, bench.created) == (Verdict.FAILED, False, 1)
    assert "budget" in done.images[0].reason
    assert as_json(done)["usd"] == 0


def test_where_no_image_is_there_is_nothing_to_compare_with(open_bench: Open) -> None:
    bench = open_bench(FaultPlan(outcome={"failed_nsfw": 1.0}))
    (request,) = make_requests(1)
    bench.run([request])

    with pytest.raises(LedgerError, match="no stored image"):
        plan(bench, request)


class TestSecrets:
    def prompt_set(self, lora: str) -> PromptSet:
        return build_prompt_set(
            "set",
            {
                "model": "lucataco/flux-schnell-lora",
                "defaults": {"aspect_ratio": "1:1", "output_format": "jpg", "hf_lora": lora},
                "prompts": {"prompt-0": {"prompt": "prompt 0", "seed": 0}},
            },
            path="configs/set.yaml",
        )

    def test_the_prompt_set_gives_what_the_record_must_not_hold(self, bench: Bench) -> None:
        (request,) = made(bench, hf_lora=LORA)
        assert TOKEN not in row_of(bench, request).input

        planned = plan(bench, request, lambda _: self.prompt_set(LORA))

        assert planned.request.input == request.input
        done = reproduce(bench.producer, planned, run_id="again")
        assert done.verdict == "identical"
        first, second = bench.server.ledger().predictions
        assert first.input["hf_lora"] == second.input["hf_lora"] == LORA
        assert TOKEN not in json.dumps(as_json(done))

    def test_another_token_serves_as_well(self, bench: Bench) -> None:
        (request,) = made(bench, hf_lora=LORA)
        fresh = LORA.replace("0123", "9876")

        planned = plan(bench, request, lambda _: self.prompt_set(fresh))

        assert planned.request.input["hf_lora"] == fresh

    def test_without_it_nothing_is_sent_and_what_to_do_is_said(self, bench: Bench) -> None:
        (request,) = made(bench, hf_lora=LORA)

        with pytest.raises(ConfigError, match="without its secret") as caught:
            plan(bench, request, lambda _: self.prompt_set("owner/name"))

        assert "configs/set.yaml does not make this request any more: put it back" in str(
            caught.value
        )
        assert TOKEN not in str(caught.value)

    def test_a_secret_in_the_prompt_is_noticed_too(self, bench: Bench) -> None:
        (request,) = make_requests(1, prompt=f"a picture of {TOKEN}")
        assert bench.run([request]).complete

        with pytest.raises(ConfigError, match="without its secret"):
            plan(bench, request, lambda _: self.prompt_set(LORA))

    def test_the_word_alone_is_no_secret(self, bench: Bench) -> None:
        (request,) = make_requests(1, prompt="a stamp that says REDACTED")
        assert bench.run([request]).complete

        assert plan(bench, request).request.input == request.input


def test_a_seed_that_the_provider_drew_is_sent(bench: Bench) -> None:
    request = make_requests(1, seed=None)[0]
    seedless = replace(request, input={k: v for k, v in request.input.items() if k != "seed"})
    assert bench.run([seedless]).complete
    row = row_of(bench, request)
    assert row.seed_source == "log"

    planned = plan(bench, request)

    assert planned.request.input["seed"] == row.seed
    assert "from its log" in planned.doubts[0]
    assert reproduce(bench.producer, planned, run_id="again").verdict == "identical"
