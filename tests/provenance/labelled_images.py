"""Images that are stored, labelled and recorded as a run does it, without a run."""

import io
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any

from PIL import Image

from flux_pipeline.lineage.parts import write_part
from flux_pipeline.lineage.query import Snapshot, open_snapshot
from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.models import build_request, find_model
from flux_pipeline.prediction import Prediction, Status
from flux_pipeline.produce.effects import Stored
from flux_pipeline.produce.ingest import ImageIngest
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.produce.records import build_record
from flux_pipeline.request import Source
from flux_pipeline.store.base import Store
from tests.images.samples import encode, picture

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
NAMES = {"webp": "WEBP", "jpg": "JPEG", "png": "PNG"}
WIDTH, HEIGHT = 1536, 640


@dataclass
class LabelledImages:
    """Images by name: their records, and their bytes in the store."""

    store: Store
    records: dict[str, ImageRecord] = field(default_factory=dict)

    def put(self, name: str, image_format: str = "jpg", *, seed: int, **more: Any) -> ImageRecord:
        """Store one image; another seed is another image."""
        model = find_model("lucataco/flux-schnell-lora")
        values = {"aspect_ratio": "21:9", "output_format": image_format, "seed": seed}
        given = {"prompt": f"a picture of {name}", **values, **more}
        source = Source("set", name, config_path="configs/set.yaml", config_sha256="c" * 64)
        request = build_request(model, model.input_type.model_validate(given), source)
        record = build_record(
            request,
            RunContext("run-1", "set/images", "d" * 40),
            index=0,
            status=ImageStatus.STORED,
            prediction=Prediction(f"prediction-{name}", Status.SUCCEEDED, completed_at=NOON),
        )
        body = encode(picture(WIDTH, HEIGHT, seed=seed), NAMES[image_format])
        kept = ImageIngest(self.store, lambda: NOON).ingest(request, record, body)
        assert isinstance(kept, Stored)
        self.records[name] = replace(kept.record, cost_usd=0.003)
        return self.records[name]

    def body(self, name: str) -> bytes:
        return self.store.get(str(self.records[name].uri).removeprefix(f"{self.store.uri}/"))

    def snapshot(self, *names: str) -> Snapshot:
        """The table with these rows; all where none is named."""
        rows = [self.records[name] for name in names or self.records]
        write_part(self.store, rows, asset="a", partition="", run_id="1", day=date(2026, 11, 1))
        return open_snapshot(self.store)


def opened(body: bytes) -> Image.Image:
    return Image.open(io.BytesIO(body)).convert("RGB")
