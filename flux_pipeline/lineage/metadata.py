"""The ids that travel with a stored object, so that a lost lineage row can be made again."""

from flux_pipeline.lineage.record import ImageRecord


def object_metadata(record: ImageRecord) -> dict[str, str]:
    """Names and values for ``Store.put_new``: ids only, about 0.4 KB; what is None is left out.

    The store checks that all of it is short ASCII.
    """
    found = {
        "image-sha256": record.image_sha256,
        "file-sha256": record.file_sha256,
        "prediction-id": record.prediction_id,
        "output-index": str(record.output_index),
        "request-sha256": record.request_sha256,
        "run-id": record.run_id,
        "config-sha256": record.config_sha256,
        "seed": None if record.seed is None else str(record.seed),
    }
    return {name: value for name, value in found.items() if value}
