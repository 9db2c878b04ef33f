"""Objects, written once and never changed: in a folder or an S3 bucket."""

from typing import TYPE_CHECKING

from flux_pipeline.lazy_names import lazy_names

if TYPE_CHECKING:
    from flux_pipeline.store.base import Store, StoredObject
    from flux_pipeline.store.open import open_store
    from flux_pipeline.store_options import StoreOptions
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Store": "flux_pipeline.store.base",
            "StoreOptions": "flux_pipeline.store_options",
            "StoredObject": "flux_pipeline.store.base",
            "open_store": "flux_pipeline.store.open",
        },
    )

__all__ = ["Store", "StoreOptions", "StoredObject", "open_store"]
