"""Image records for the lineage tests: one at will, and any."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from hypothesis import strategies as st

from flux_pipeline.lineage.record import ContentCredentials, ImageRecord, ImageStatus

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def digest(word: object) -> str:
    return sha256(str(word).encode()).hexdigest()


def a_record(word: object = "a", **changes: Any) -> ImageRecord:
    """A stored image; everything that should differ between images derives from ``word``."""
    known: dict[str, Any] = {
        "image_sha256": digest(f"image {word}"),
        "file_sha256": digest(f"file {word}"),
        "dhash": int(digest(f"looks {word}")[:16], 16),
        "prediction_id": f"prediction-{word}",
        "output_index": 0,
        "request_sha256": digest(f"request {word}"),
        "prompt_set": "winter",
        "prompt_name": f"prompt-{word}",
        "take": 1,
        "partition": "castle",
        "model": "lucataco/flux-schnell-lora",
        "version": digest("version"),
        "prompt": f"a beautiful castle, number {word}",
        "num_outputs": 1,
        "seed": 7,
        "seed_source": "request",
        "input": '{"prompt":"a beautiful castle"}',
        "run_id": "run-1",
        "asset": "winter/images",
        "config_path": "configs/winter.yaml",
        "config_sha256": digest("config"),
        "code_version": "0" * 40,
        "status": ImageStatus.STORED,
        "uri": f"s3://bucket/images/{word}.webp",
        "format": "webp",
        "width": 1024,
        "height": 1024,
        "bytes": 100_000,
        "requested_at": NOON,
        "completed_at": NOON + timedelta(seconds=3),
        "stored_at": NOON + timedelta(seconds=4),
        "predict_seconds": 2.5,
        "attempts": 1,
        "polls": 2,
        "cost_usd": 0.003,
    }
    return ImageRecord(**(known | changes))


def a_failure(word: object = "a", **changes: Any) -> ImageRecord:
    """The same image asked for, and nothing came."""
    nothing: dict[str, Any] = dict.fromkeys(
        ("image_sha256", "file_sha256", "dhash", "prediction_id", "uri", "width", "height", "bytes")
    )
    times = {"completed_at": None, "stored_at": None}
    failed = {"status": ImageStatus.FAILED, "error": "no connection"}
    return a_record(word, **(nothing | times | failed | changes))


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
HEX = st.integers(0, 2**256 - 1).map("{:064x}".format)
TIMES = st.timedeltas(timedelta(0), timedelta(days=80_000)).map(
    lambda age: datetime(1970, 1, 1, tzinfo=UTC) + age
)
RECORDS = st.builds(
    ImageRecord,
    image_sha256=st.none() | HEX,
    file_sha256=st.none() | HEX,
    dhash=st.none() | st.integers(0, 2**64 - 1),
    prediction_id=st.none() | TEXTS,
    output_index=st.integers(0, 3),
    request_sha256=HEX,
    prompt_set=TEXTS,
    prompt_name=TEXTS,
    take=st.integers(1, 2**31 - 1),
    partition=TEXTS,
    model=TEXTS,
    version=TEXTS,
    served_version=st.none() | TEXTS,
    provider=st.none() | TEXTS,
    prompt=TEXTS,
    hf_lora=st.none() | TEXTS,
    lora_scale=st.none() | st.floats(0, 1),
    aspect_ratio=st.none() | TEXTS,
    num_inference_steps=st.none() | st.integers(1, 12),
    num_outputs=st.integers(1, 4),
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    seed_source=st.sampled_from(["request", "log", "unknown"]),
    input=TEXTS,
    input_images=st.none() | TEXTS,
    run_id=TEXTS,
    asset=TEXTS,
    config_path=TEXTS,
    config_sha256=TEXTS,
    code_version=TEXTS,
    status=st.sampled_from(ImageStatus),
    error=st.none() | TEXTS,
    uri=st.none() | TEXTS,
    format=TEXTS,
    width=st.none() | st.integers(0, 2**31 - 1),
    height=st.none() | st.integers(0, 2**31 - 1),
    bytes=st.none() | st.integers(0, 2**63 - 1),
    credentials=st.none() | st.sampled_from(ContentCredentials),
    requested_at=st.none() | TIMES,
    completed_at=st.none() | TIMES,
    stored_at=st.none() | TIMES,
    predict_seconds=st.none() | st.floats(0, 1e6),
    attempts=st.integers(0, 2**15 - 1),
    polls=st.integers(0, 2**15 - 1),
    cost_usd=st.floats(0, 1e6),
)
