"""What an image file says about itself: enough to rebuild its lineage row from the file alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from flux_pipeline.request import JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """The label of one image; every field may be left out, and reads back as it was written.

    A label is published with its file: secrets must be redacted before. With ``prompt=None`` the
    file holds no prompt: the member ``prompt`` of ``input`` and of ``extra`` is left out too.
    """

    prompt: str | None = None
    """As IPTC AIPromptInformation; None where the configuration keeps prompts out of files."""
    prediction_id: str | None = None
    request_sha256: str = ""
    output_index: int | None = None
    """0-based place in the prediction's batch."""
    image_sha256: str = ""
    """Of the coded pixels alone; see ``containers.image_sha256``."""
    seed: int | None = None
    run_id: str = ""
    prompt_set: str = ""
    prompt_name: str = ""
    partition: str = ""
    model: str = ""
    """``owner/name``; also as IPTC AISystemUsed."""
    version: str = ""
    """64 hex digits; also as IPTC AISystemVersionUsed."""
    config_sha256: str = ""
    input: str = ""
    """The whole input that was sent, redacted, as canonical JSON."""
    created_at: datetime | None = None
    """With a time zone; also as xmp:CreateDate."""
    producer: str = ""
    """Code of the organisation for the TC260:AIGC label; empty for none."""
    extra: Mapping[str, JsonValue] = field(default_factory=dict, hash=False)
    """Everything else of the lineage row."""

    @property
    def produce_id(self) -> str:
        """The producer's own number of this image: prediction and place in its batch."""
        if self.prediction_id is None or self.output_index is None:
            return self.image_sha256
        return f"{self.prediction_id}-{self.output_index}"
