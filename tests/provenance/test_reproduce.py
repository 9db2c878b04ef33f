"""A reproduction beside its original: paid once, kept apart, compared."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

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
from tests.audit.unfinished import accept, create, intend
from tests.images.provider_credentials import provider
from tests.produce.pipeline import QUICK, Pipeline, change_ledger, keys, make_requests

Open = Callable[..., Pipeline]
TOKEN = "hf_0123456789abcdefghijABCDEFGHIJ"
LOSSY = FaultPlan(create={"reset_after": 1.0}, cap=9)
LORA = f"https://civitai.com/weights/x.safetensors?token={TOKEN}"


def no_set(name: str) -> PromptSet:
    raise AssertionError(f"{name} was not needed")


def row_of(pipeline: Pipeline, request: Request) -> ImageRecord:
    return find_exact(open_snapshot(pipeline.store), "request_sha256", request.request_sha256)[0]


def plan(
    pipeline: Pipeline, request: Request, load_set: Callable[[str], PromptSet] = no_set
) -> Plan:
    snapshot = open_snapshot(pipeline.store)
    return plan_reproduction(snapshot, pipeline.store, row_of(pipeline, request), load_set)


def make_again(pipeline: Pipeline, request: Request, run_id: str = "again") -> Reproduction:
    done = reproduce(pipeline.producer, plan(pipeline, request), run_id=run_id)
    write_report(pipeline.store, done)
    return done


def made(pipeline: Pipeline, count: int = 1, **inputs: object) -> list[Request]:
    requests = make_requests(count, **inputs)
    assert pipeline.run(requests).complete
    return requests


def test_the_same_input_is_sent_again_to_the_letter_and_compared(pipeline: Pipeline) -> None:
    (request,) = made(pipeline, num_outputs=2, lora_scale=1.0)
    before = row_of(pipeline, request)

    done = make_again(pipeline, request)

    assert (done.verdict, done.created, done.take, done.finished) == ("identical", 1, 1, True)
    assert [image.distance for image in done.images] == [0, 0]
    assert done.usd == pytest.approx(0.006)
    first, second = pipeline.server.usage().predictions
    assert first.input == second.input
    assert first.id != second.id == done.prediction
    assert row_of(pipeline, request) == before
    assert verify(pipeline.producer, deep=True).ok


def test_a_file_that_keeps_the_providers_signature_is_compared_by_its_pixels(
    open_pipeline: Open, tmp_path: Path
) -> None:
    """Each signature is another one, so that the two files differ and the pictures don't."""
    pytest.importorskip("c2pa", reason="c2pa is missing: pip install 'flux-pipeline[c2pa]'")
    signs = [provider(tmp_path / name) for name in ("first", "second")]

    def finish(body: bytes) -> bytes:
        return signs[0](body)

    pipeline = open_pipeline(finish=finish)
    (request,) = made(pipeline)
    signs.pop(0)

    done = make_again(pipeline, request)

    (again,) = find_exact(open_snapshot(pipeline.store), "request_sha256", done.request)
    original = row_of(pipeline, request)
    assert (done.verdict, original.credentials, again.credentials) == ("identical", "kept", "kept")
    assert original.file_sha256 != again.file_sha256
    assert verify(pipeline.producer, deep=True).ok


def test_its_rows_and_objects_are_its_own_and_say_what_they_are(pipeline: Pipeline) -> None:
    (request,) = made(pipeline)

    done = make_again(pipeline, request)

    (row,) = find_exact(open_snapshot(pipeline.store), "request_sha256", done.request)
    assert original_request(row) == request.request_sha256
    assert (row.prompt_set, row.prompt_name) == ("set", "prompt-0 (reproduction)")
    assert (row.take, row.seed, row.run_id) == (1, 0, "again")
    images = keys(pipeline, "images/")
    assert len(images) == 2
    assert any("prompt-0-reproduction-" in key for key in images)
    assert original_request(row_of(pipeline, request)) is None


def test_every_call_is_another_take_and_the_original_s_own_run_costs_nothing(
    pipeline: Pipeline,
) -> None:
    (request,) = made(pipeline)

    takes = [make_again(pipeline, request).take for _ in range(3)]

    assert takes == [1, 2, 3]
    assert pipeline.created == 4
    assert pipeline.run([request]).unchanged == 1
    reports = keys(pipeline, "reproductions/")
    assert len(reports) == 3
    assert json.loads(pipeline.store.get(reports[0]))["verdict"] == "identical"


def test_of_a_reproduction_the_original_is_made_again(pipeline: Pipeline) -> None:
    (request,) = made(pipeline)
    first = make_again(pipeline, request)
    (row,) = find_exact(open_snapshot(pipeline.store), "request_sha256", first.request)

    planned = plan_reproduction(open_snapshot(pipeline.store), pipeline.store, row, no_set)

    assert (planned.original, planned.request.source.take) == (request.request_sha256, 2)


class TestInterrupted:
    def test_what_was_accepted_is_resumed_by_id(self, pipeline: Pipeline) -> None:
        (request,) = made(pipeline)
        accepted = accept(pipeline, plan(pipeline, request).request)

        done = make_again(pipeline, request)

        assert (done.prediction, done.created, done.usd) == (accepted.id, 0, 0.0)
        assert (done.verdict, pipeline.created) == ("identical", 2)

    def test_what_was_never_sent_is_sent_once(self, pipeline: Pipeline) -> None:
        (request,) = made(pipeline)
        intend(pipeline, plan(pipeline, request).request)

        assert make_again(pipeline, request).created == 1
        assert pipeline.created == 2

    def test_what_was_sent_and_never_answered_is_found_in_the_list(
        self, pipeline: Pipeline
    ) -> None:
        (request,) = made(pipeline)
        again = plan(pipeline, request).request
        intend(pipeline, again)
        sent = create(pipeline, again)

        done = make_again(pipeline, request)

        assert (done.prediction, done.created, pipeline.created) == (sent.id, 1, 2)
        assert done.usd == pytest.approx(0.003), "no other run has counted it"

    def test_it_is_no_second_payment_of_the_original(self, pipeline: Pipeline) -> None:
        (request,) = made(pipeline)
        again = plan(pipeline, request).request
        intend(pipeline, again)
        create(pipeline, again)

        assert verify(pipeline.producer).ok

    def test_what_a_rescue_finished_is_compared_and_not_paid_again(
        self, pipeline: Pipeline
    ) -> None:
        (request,) = made(pipeline)
        accept(pipeline, plan(pipeline, request).request)
        assert rescue(pipeline.producer, run_id="rescue", older_than=0).complete

        done = make_again(pipeline, request)

        assert (done.created, done.take, done.verdict) == (0, 1, "identical")
        assert "made already" in done.notes[0]
        assert pipeline.created == 2

    def test_what_was_not_reported_is_compared_again_for_nothing(self, pipeline: Pipeline) -> None:
        (request,) = made(pipeline)
        reproduce(pipeline.producer, plan(pipeline, request), run_id="one")

        done = reproduce(pipeline.producer, plan(pipeline, request), run_id="two")

        assert (done.created, done.take, pipeline.created) == (0, 1, 2)


class TestLostAnswers:
    """The original has the very input that is looked for in the provider's list."""

    @pytest.fixture
    def lossy(self, open_pipeline: Open) -> Pipeline:
        """Every answer to a create is lost; the original's was, too."""
        return open_pipeline(LOSSY, has_list=True)

    def test_the_original_is_not_taken_for_the_reproduction(self, lossy: Pipeline) -> None:
        (request,) = made(lossy)
        original = row_of(lossy, request).prediction_id

        done = make_again(lossy, request)

        paid = [each.id for each in lossy.server.usage().predictions]
        assert done.prediction in paid
        assert done.prediction != original
        assert len(paid) == 2
        assert lossy.server.usage().faults["create.reset_after"] == 2

    def test_not_even_where_the_ledger_was_lost(self, open_pipeline: Open) -> None:
        pipeline = open_pipeline(LOSSY, has_list=True)
        (request,) = made(pipeline)
        original = row_of(pipeline, request).prediction_id
        change_ledger(pipeline, "DELETE FROM flux_attempts")
        pipeline.reopen()

        done = make_again(pipeline, request)

        assert done.prediction != original
        assert pipeline.ledger.known_ids([str(original)]) == {original}
        assert pipeline.created == 2

    def test_nor_where_the_ledger_knows_another_prediction_of_it(self, pipeline: Pipeline) -> None:
        (request,) = made(pipeline)
        original = str(row_of(pipeline, request).prediction_id)
        change_ledger(pipeline, "UPDATE flux_attempts SET prediction_id = 'another'")
        pipeline.reopen()
        planned = plan(pipeline, request)
        intend(pipeline, planned.request)  # sent, perhaps; in fact never

        done = reproduce(pipeline.producer, planned, run_id="again")

        assert original in planned.others
        assert done.prediction != original
        assert done.created == 1

    def test_without_a_list_it_is_held_and_never_sent_again(self, open_pipeline: Open) -> None:
        (request,) = made(open_pipeline())
        pipeline = open_pipeline(LOSSY, QUICK.model_copy(update={"list_enabled": False}))

        for _ in range(2):
            done = make_again(pipeline, request)
            assert (done.verdict, done.finished) == ("failed", False)
            assert "held" in done.images[0].reason
            assert pipeline.created == 1
        assert pipeline.ledger.find([done.request])[done.request].state is State.HELD
        assert keys(pipeline, "reproductions/") == []


def test_another_picture_is_called_different(pipeline: Pipeline) -> None:
    (request,) = made(pipeline)
    planned = plan(pipeline, request)
    (original,) = planned.originals
    far = replace(original, image_sha256="0" * 64, dhash=(original.dhash or 0) ^ (2**64 - 1))
    near = replace(original, image_sha256="0" * 64, dhash=(original.dhash or 0) ^ 0b111)

    verdicts = []
    for row in (far, near):
        done = reproduce(pipeline.producer, replace(planned, originals=(row,)), run_id="again")
        verdicts.append((done.verdict, done.images[0].distance))

    assert verdicts == [(Verdict.DIFFERENT, 64), (Verdict.SIMILAR, 3)]


def test_over_budget_nothing_is_sent_and_the_take_stays_open(pipeline: Pipeline) -> None:
    (request,) = made(pipeline)

    done = reproduce(
        pipeline.producer, plan(pipeline, request), run_id="again", limits=Limits(usd_per_day=0.001)
    )

    assert (done.verdict, done.finished, pipeline.created) == (Verdict.FAILED, False, 1)
    assert "budget" in done.images[0].reason
    assert as_json(done)["usd"] == 0


def test_where_no_image_is_there_is_nothing_to_compare_with(open_pipeline: Open) -> None:
    pipeline = open_pipeline(FaultPlan(outcome={"failed_nsfw": 1.0}))
    (request,) = make_requests(1)
    pipeline.run([request])

    with pytest.raises(LedgerError, match="no stored image"):
        plan(pipeline, request)


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

    def test_the_prompt_set_gives_what_the_record_must_not_hold(self, pipeline: Pipeline) -> None:
        (request,) = made(pipeline, hf_lora=LORA)
        assert TOKEN not in row_of(pipeline, request).input

        planned = plan(pipeline, request, lambda _: self.prompt_set(LORA))

        assert planned.request.input == request.input
        done = reproduce(pipeline.producer, planned, run_id="again")
        assert done.verdict == "identical"
        first, second = pipeline.server.usage().predictions
        assert first.input["hf_lora"] == second.input["hf_lora"] == LORA
        assert TOKEN not in json.dumps(as_json(done))

    def test_another_token_serves_as_well(self, pipeline: Pipeline) -> None:
        (request,) = made(pipeline, hf_lora=LORA)
        fresh = LORA.replace("0123", "9876")

        planned = plan(pipeline, request, lambda _: self.prompt_set(fresh))

        assert planned.request.input["hf_lora"] == fresh

    def test_without_it_nothing_is_sent_and_what_to_do_is_said(self, pipeline: Pipeline) -> None:
        (request,) = made(pipeline, hf_lora=LORA)

        with pytest.raises(ConfigError, match="without its secret") as caught:
            plan(pipeline, request, lambda _: self.prompt_set("owner/name"))

        assert "configs/set.yaml does not make this request any more: put it back" in str(
            caught.value
        )
        assert TOKEN not in str(caught.value)

    def test_a_secret_in_the_prompt_is_noticed_too(self, pipeline: Pipeline) -> None:
        (request,) = make_requests(1, prompt=f"a picture of {TOKEN}")
        assert pipeline.run([request]).complete

        with pytest.raises(ConfigError, match="without its secret"):
            plan(pipeline, request, lambda _: self.prompt_set(LORA))

    def test_the_word_alone_is_no_secret(self, pipeline: Pipeline) -> None:
        (request,) = make_requests(1, prompt="a stamp that says REDACTED")
        assert pipeline.run([request]).complete

        assert plan(pipeline, request).request.input == request.input


def test_a_seed_that_the_provider_drew_is_sent(pipeline: Pipeline) -> None:
    request = make_requests(1, seed=None)[0]
    seedless = replace(request, input={k: v for k, v in request.input.items() if k != "seed"})
    assert pipeline.run([seedless]).complete
    row = row_of(pipeline, request)
    assert row.seed_source == "log"

    planned = plan(pipeline, request)

    assert planned.request.input["seed"] == row.seed
    assert "from its log" in planned.doubts[0]
    assert reproduce(pipeline.producer, planned, run_id="again").verdict == "identical"
