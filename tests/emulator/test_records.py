"""Predictions in the database: as they were stored, and in order."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.emulator import records
from flux_pipeline.emulator.lifecycle import Plan
from flux_pipeline.emulator.records import Record, State


def made(prediction_id: str = "", *, created_at: float = 0, plan: Plan | None = None) -> Record:
    return Record(
        id=prediction_id or records.new_id(),
        input_sha="sha",
        ordinal=0,
        created_at=created_at,
        model="a/b",
        version="v",
        input={"prompt": "x", "num_outputs": 2},
        plan=plan or Plan(1, 2, 3),
        cost_usd=0.5,
    )


plans = st.builds(
    Plan,
    starts_at=st.floats(0, 1e10),
    ends_at=st.floats(0, 1e10),
    seed=st.integers(-(2**63), 2**64 - 1),
    end=st.sampled_from(["succeeded", "failed", "stuck"]),
    error=st.one_of(st.none(), st.text()),
    refused=st.lists(st.integers(0, 3)).map(tuple),
    null_reads=st.sampled_from([0, 1, math.inf]),
    late_seconds=st.floats(0, 10),
)


@settings(max_examples=40)
@given(plans)
def test_a_record_comes_back_as_it_was_stored(plan: Plan) -> None:
    stored = made(plan=plan)
    with State() as state, state.transaction() as connection:
        records.insert(connection, stored)
        found = records.find(connection, stored.id)
    assert found is not None
    assert found.plan == plan
    assert (found.input, found.cost_usd, found.seq) == (stored.input, 0.5, 1)
    assert found.typed_input.num_outputs == 2


def test_an_id_is_stored_once() -> None:
    with State() as state, state.transaction() as connection:
        records.insert(connection, made("same"))
        with pytest.raises(Exception, match="UNIQUE"):
            records.insert(connection, made("same"))


def test_the_first_cancel_counts() -> None:
    with State() as state, state.transaction() as connection:
        records.insert(connection, made("x"))
        records.cancel(connection, "x", 10)
        records.cancel(connection, "x", 20)
        found = records.find(connection, "x")
    assert found is not None
    assert found.canceled_at == 10


def test_reads_and_expiry_are_remembered() -> None:
    with State() as state, state.transaction() as connection:
        records.insert(connection, made("x"))
        records.count_read(connection, "x")
        records.expire(connection, "x")
        found = records.find(connection, "x")
    assert found is not None
    assert (found.reads, found.expired) == (1, True)
    assert found.life.at(1e9, 1e12).removed


def test_charges_add_up() -> None:
    with State() as state, state.transaction() as connection:
        assert records.charged(connection) == 0
        for _ in range(3):
            records.insert(connection, made())
        assert records.charged(connection) == 1.5
        assert records.count_same(connection, "sha") == 3
        assert records.count_same(connection, "other") == 0


@given(
    times=st.lists(st.floats(0, 100), max_size=12),
    after=st.floats(-1, 101),
    before=st.floats(-1, 101),
    limit=st.integers(1, 5),
)
@settings(max_examples=40)
def test_pages_together_are_the_window_newest_first(
    times: list[float], after: float, before: float, limit: int
) -> None:
    with State() as state, state.transaction() as connection:
        for number, moment in enumerate(times):
            records.insert(connection, made(f"{number}", created_at=moment))
        seen: list[Record] = []
        position = 2**62
        while page := records.page(
            connection, after=after, before=before, older_than=position, limit=limit
        ):
            assert len(page) <= limit
            seen += page
            position = page[-1].seq
    expected = [str(n) for n, moment in enumerate(times) if after < moment < before][::-1]
    assert [record.id for record in seen] == expected
