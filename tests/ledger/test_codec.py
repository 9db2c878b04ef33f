"""A request survives the ledger whole, and a reply as far as it is needed."""

import json
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger.codec import (
    dump_reply,
    dump_request,
    load_prediction,
    load_request,
)
from flux_pipeline.prediction import Output, Prediction, Status
from flux_pipeline.request import InputPicture, Request, Source

text = st.text(st.characters(), max_size=20)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(text, children, max_size=3),
    max_leaves=8,
)
sources = st.builds(Source, text, text, st.integers(1, 99), text, text, text)
pictures = st.builds(
    InputPicture,
    sha256=text,
    uri=text,
    bytes=st.integers(0, 2**40),
    content_type=text,
    request_sha256=st.none() | text,
)
requests = st.builds(
    Request,
    model=text,
    version=text,
    input=st.dictionaries(text, json_values, max_size=5),
    request_sha256=text,
    outputs=st.integers(1, 4),
    width=st.integers(1, 4096),
    height=st.integers(1, 4096),
    image_format=st.sampled_from(["webp", "jpg", "png"]),
    cost_usd=st.floats(0, 100),
    source=sources,
    pictures=st.lists(pictures, max_size=3).map(tuple),
    defaults=st.dictionaries(text, json_values, max_size=2),
    seed_input=text,
    secret_inputs=st.lists(text, max_size=2).map(tuple),
    weights=text,
)

REQUEST = Request(
    model="owner/model",
    version="0" * 64,
    input={"prompt": "a castle", "seed": 7},
    request_sha256="1" * 64,
    outputs=1,
    width=1024,
    height=768,
    image_format="webp",
    cost_usd=0.003,
    source=Source("winter", "castle", 2, "2026-11-22", "configs/winter.yaml", "2" * 64),
)


@given(requests)
def test_a_request_comes_back_equal(request: Request) -> None:
    form = dump_request(request)
    assert form.isascii()
    again = load_request(form)
    assert again == request
    assert repr(again) == repr(request), "types too: 1 and 1.0 and True are equal"


def test_every_field_is_kept() -> None:
    table = json.loads(dump_request(REQUEST))
    assert set(table) == {"form", *(field.name for field in fields(Request))}
    assert set(table["source"]) == {field.name for field in fields(Source)}
    assert load_request(dump_request(REQUEST)).seed == 7


def test_the_input_may_be_any_mapping() -> None:
    request = replace(REQUEST, input=MappingProxyType({"seed": 1}))
    assert load_request(dump_request(request)).input == {"seed": 1}


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_without_a_form_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump_request(replace(REQUEST, input={"scale": number}))


@pytest.mark.parametrize(
    "damage",
    [
        lambda table: table.pop("source"),
        lambda table: table.pop("form"),
        lambda table: table.update(extra=1),
        lambda table: table.update(source=None),
    ],
)
def test_what_something_else_wrote_is_refused(damage: Any) -> None:
    table = json.loads(dump_request(REQUEST))
    damage(table)
    with pytest.raises(LedgerError, match="can't be read") as caught:
        load_request(json.dumps(table))
    assert "castle" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"a castle"'])
def test_what_is_no_table_is_refused(text: str) -> None:
    with pytest.raises(LedgerError, match="can't be read"):
        load_request(text)


def test_a_newer_form_is_refused_with_what_to_do() -> None:
    table = {**json.loads(dump_request(REQUEST)), "form": 2}
    with pytest.raises(LedgerError, match="newer release: update"):
        load_request(json.dumps(table))


def test_a_reply_with_an_id_is_resumed_by_the_id_and_keeps_no_address() -> None:
    outputs = (Output(index=0, url="https://files.example/0?signature=s3cret"),)
    prediction = Prediction(id="p1", status=Status.SUCCEEDED, outputs=outputs, raw='{"id":"p1"}')
    reply = dump_reply(prediction)
    assert json.loads(reply) == {"status": "succeeded", "reply": '{"id":"p1"}'}
    assert load_prediction("p1", reply) == Prediction(id="p1", status=Status.UNKNOWN)


def test_a_reply_without_an_id_keeps_the_addresses_that_nothing_else_leads_to() -> None:
    outputs = (Output(index=0, url="https://files.example/0"),)
    prediction = Prediction(id=None, status=Status.SUCCEEDED, outputs=outputs, raw="{}")
    loaded = load_prediction(None, dump_reply(prediction))
    assert (loaded.status, loaded.outputs) == (Status.SUCCEEDED, outputs)
