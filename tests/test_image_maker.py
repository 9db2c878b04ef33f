"""Images are made from Python with the guarantees of a run: paid once, and failures are results."""

from pathlib import Path

import pytest

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.errors import ConfigError
from flux_pipeline.image_maker import make_images
from flux_pipeline.produce.report import ResultStatus
from flux_pipeline.prompts import build_prompt_set
from flux_pipeline.testing import ImageStudio, image_studio, open_studio

__all__ = ["image_studio"]
WINTER = build_prompt_set(
    "winter",
    {
        "model": "lucataco/flux-schnell-lora",
        "prompts": {"castle": "a castle", "moon": "the moon", "zoo": "a zoo"},
        "budget": {"usd_per_run": 1},
    },
)


def test_what_is_made_is_paid_once(image_studio: ImageStudio) -> None:
    producer = image_studio.image_producer
    (castle,) = make_images(WINTER, "castle", producer=producer)
    assert castle.status is ResultStatus.STORED
    assert castle.request.source.prompt_name == "castle"
    assert castle.records[0].uri is not None
    again = {
        each.request.source.prompt_name: each for each in make_images(WINTER, producer=producer)
    }
    assert again["castle"].status is ResultStatus.UNCHANGED
    assert {each.status for name, each in again.items() if name != "castle"} == {
        ResultStatus.STORED
    }
    assert image_studio.usage.creates_accepted == 3


def test_a_request_that_fails_is_a_result_with_its_reason(tmp_path: Path) -> None:
    faults = FaultPlan(outcome={"failed_permanent": 1.0}, only_prompts="zoo", cap=100)
    with open_studio(tmp_path, faults) as studio:
        results = list(make_images(WINTER, producer=studio.image_producer))
    failed = [each for each in results if each.status is ResultStatus.FAILED]
    assert [each.request.source.prompt_name for each in failed] == ["zoo"]
    assert failed[0].reason
    assert len(results) == 3


def test_whoever_stops_to_iterate_is_resumed_by_the_next_call(image_studio: ImageStudio) -> None:
    producer = image_studio.image_producer
    results = make_images(WINTER, producer=producer)
    next(results)
    results.close()
    assert len(list(make_images(WINTER, producer=producer))) == 3
    assert image_studio.usage.creates_accepted == 3
    assert image_studio.usage.distinct_inputs == 3


def test_nothing_is_sent_for_a_partition_that_does_not_exist(image_studio: ImageStudio) -> None:
    with pytest.raises(ConfigError, match="no partition castel"):
        make_images(WINTER, ["zoo", "castel"], producer=image_studio.image_producer)
    assert image_studio.usage.creates_received == 0


def test_a_key_that_is_missing_is_said_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUX_PROVIDER", "replicate")
    for name in ("FLUX_API_KEY", "REPLICATE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="FLUX_API_KEY"):
        make_images(WINTER)
