from dataclasses import FrozenInstanceError, replace

import pytest

from flux_pipeline.images.labels import Label


def test_label_is_a_value(label: Label) -> None:
    assert label == replace(label)
    assert hash(label) == hash(replace(label, extra=dict(label.extra)))
    with pytest.raises(FrozenInstanceError):
        label.seed = 1  # type: ignore[misc]


def test_every_field_may_be_left_out() -> None:
    assert Label() == Label(prompt=None, extra={})


def test_produce_id_is_prediction_and_place(label: Label) -> None:
    assert label.produce_id == "ufawqhfynnddngldkgtslldrkq-1"


def test_produce_id_without_a_prediction_is_the_images_hash(label: Label) -> None:
    assert replace(label, prediction_id=None).produce_id == "b" * 64
    assert replace(label, output_index=None).produce_id == "b" * 64
