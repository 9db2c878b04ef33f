"""One picture, and how it is put."""

from flux_pipeline.store.base import Store
from tests.store.contract import WEBP

KEY = "images/castle/out-0.webp"
IDS = {"prediction-id": "p1"}


def put(store: Store, body: bytes = b"picture", key: str = KEY) -> bool:
    """Put it as new; whether it was."""
    return store.put_new(key, body, content_type=WEBP, metadata=IDS)[1]
