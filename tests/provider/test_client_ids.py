"""Ids of predictions of every kind are polled, canceled, found and remembered."""

import time

import pytest

from flux_pipeline.outcomes import Accepted, Found, Polled
from flux_pipeline.provider.client import Provider
from tests.provider.id_server import serve_ids
from tests.provider.samples import IMAGE, Configured, make_request

pytestmark = pytest.mark.anyio

IDS = {
    "number": 8712345678901,
    "zero": 0,
    "colon": "0c8nd1h7x5rm:flux/schnell",
    "dot": "task.0c8nd1h7x5rm",
    "long": "x" * 40 + "0123456789abcdef" * 4,
    "uuid": "{5f0c9ec2-2f6d-4a3b-8a43-1f9f0f6f7c11}",
    "nanoid": "-_Xq3.~",
    "odd": "a=b&c+d;e@f!$(g)*,[h]|i^",
}


@pytest.mark.parametrize("made", IDS.values(), ids=IDS)
async def test_a_prediction_is_known_by_its_id_whatever_its_kind(
    configured: Configured, made: object
) -> None:
    async with serve_ids(made) as server, Provider(configured(server.origin)) as provider:
        outcome = await provider.create(make_request())
        assert isinstance(outcome, Accepted)
        assert outcome.prediction.id == str(made)
        polled = await provider.poll(str(made))
        canceled = await provider.cancel(str(made))
        found = await provider.find(make_request(), since=time.time())
        others = await provider.find(make_request(), since=time.time(), known=[str(made)])
        assert isinstance(polled, Polled)
        assert polled == canceled
        assert polled.prediction.id == str(made)
        assert isinstance(found, Found)
        assert found.prediction.id == str(made)
        assert not isinstance(others, Found)
        assert await provider.download(polled.prediction.outputs[0]) == IMAGE
    path = server.paths[0].removeprefix("/v1/predictions/")
    assert not set(path) & set("/?#:@&=+;{}[] ")
