"""The fault plan: the same faults in every run, and never without an end."""

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flux_pipeline.emulator import fault_replies, faults
from flux_pipeline.emulator.faults import (
    CallFault,
    CreateFault,
    DownloadFault,
    FaultPlan,
    InputFault,
    OutcomeFault,
    UploadFault,
    draw_fault,
    load_fault_plan,
)
from flux_pipeline.emulator.records import State

NAMES = [f"input-{number}" for number in range(400)]


def series(plan: FaultPlan, identity: str, length: int) -> list[str | None]:
    with State() as state, state.transaction() as connection:
        return [draw_fault(connection, plan, "poll", identity) for _ in range(length)]


def test_without_rates_nothing_goes_wrong() -> None:
    assert series(FaultPlan(), "x", 20) == [None] * 20


def test_rates_are_met() -> None:
    plan = FaultPlan(create={"reset_after": 0.1, "hang_before": 0.2})
    drawn = [plan.drawn("create", name, 0, 0) for name in NAMES]
    assert 20 < drawn.count("reset_after") < 60
    assert 55 < drawn.count("hang_before") < 105


def test_a_plan_decides_the_same_in_every_run_and_order() -> None:
    plan = FaultPlan(seed=5, poll={"reset": 0.5})
    names = NAMES[:20]
    assert [series(plan, name, 5) for name in names] == [
        series(plan, name, 5) for name in reversed(names)
    ][::-1]


def test_another_seed_decides_otherwise() -> None:
    one, two = (FaultPlan(seed=seed, poll={"reset": 0.5}) for seed in (1, 2))
    assert [one.drawn("poll", name, 0, 0) for name in NAMES] != [
        two.drawn("poll", name, 0, 0) for name in NAMES
    ]


@settings(max_examples=40)
@given(cap=st.integers(1, 4), rate=st.floats(0, 1), identity=st.text(max_size=5))
def test_no_series_is_longer_than_the_cap(cap: int, rate: float, identity: str) -> None:
    run = 0
    for fault in series(FaultPlan(cap=cap, poll={"html": rate}), identity, 20):
        run = 0 if fault is None else run + 1
        assert run <= cap


def test_with_rate_one_and_cap_one_every_second_call_succeeds() -> None:
    assert series(FaultPlan(cap=1, poll={"reset": 1.0}), "x", 4) == ["reset", None, "reset", None]


def test_not_found_never_follows_a_fault() -> None:
    assert series(FaultPlan(cap=9, poll={"not_found": 1.0}), "x", 4) == [
        "not_found",
        None,
        "not_found",
        None,
    ]


def test_outcomes_of_the_input_meet_it_again_and_others_end() -> None:
    for_good = FaultPlan(cap=1, outcome={"failed_nsfw": 1.0})
    passing = FaultPlan(cap=1, outcome={"failed_pa": 1.0})
    with State() as state, state.transaction() as connection:
        nsfw = [draw_fault(connection, for_good, "outcome", "x") for _ in range(4)]
        transient = [draw_fault(connection, passing, "outcome", "y") for _ in range(4)]
    assert nsfw == ["failed_nsfw"] * 4
    assert transient == ["failed_pa", None, "failed_pa", None]


def test_a_plan_can_be_limited_to_some_prompts() -> None:
    plan = FaultPlan(only_prompts="storm")
    assert plan.concerns("a stormy harbour")
    assert not plan.concerns("a calm harbour")
    assert FaultPlan().concerns("anything")


@pytest.mark.parametrize(
    "wrong",
    [
        {"create": {"explode": 0.1}},
        {"create": {"reset_before": 1.1}},
        {"create": {"reset_before": 0.6, "reset_after": 0.6}},
        {"upload": {"reset": 0.1}},
        {"cap": 0},
    ],
)
def test_a_wrong_plan_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        FaultPlan.model_validate(wrong)


def test_a_plan_is_loaded_from_yaml(tmp_path: Path) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text("seed: 7\ncreate: {reset_after: 0.05}\ndownload:\n  gzip_bomb: 0.01\n")
    assert load_fault_plan(file) == FaultPlan(
        seed=7, create={"reset_after": 0.05}, download={"gzip_bomb": 0.01}
    )
    file.write_text("")
    assert load_fault_plan(file) == FaultPlan()


def test_a_file_that_is_no_plan_says_so(tmp_path: Path) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text("create: [")
    with pytest.raises(ValueError, match=r"faults\.yaml: not YAML"):
        load_fault_plan(file)
    file.write_text("create: {explode: 1}")
    with pytest.raises(ValueError, match="explode"):
        load_fault_plan(file)


def test_every_named_fault_can_happen() -> None:
    bare = {name.removesuffix("_before").removesuffix("_after") for name in get_args(CreateFault)}
    uploads = {
        name.removesuffix("_before").removesuffix("_after") for name in get_args(UploadFault)
    }
    named = bare | uploads | set(get_args(CallFault))
    assert named == set(fault_replies._BROKEN) | {"data_uri", "slow"}
    assert set(get_args(InputFault)) == set(faults.INPUT_MESSAGES)
    assert set(get_args(DownloadFault)) == set(fault_replies._SPOILED)
    plans = {"images_refused", "null_output_once", "null_output", "late_output"}
    assert set(get_args(OutcomeFault)) == set(faults.ERROR_MESSAGES) | set(faults._ENDS) | plans
