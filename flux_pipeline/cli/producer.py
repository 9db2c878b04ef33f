"""Opens provider, store and ledger of the settings, for commands that work without Dagster runs.

The module stands alone because it imports the provider's HTTP stack: ``workspace`` is imported by
commands that must start fast.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from flux_pipeline.produce.producer import Producer
from flux_pipeline.settings import Settings


@contextmanager
def open_producer(settings: Settings, *, reading: bool = False) -> Iterator[Producer]:
    """Open all three as a run does, with the values of the secrets.

    ``reading`` as for ``ImageProducer.open``.

    Raises:
        ConfigError, StoreError, LedgerError: As ``ImageProducer.open``.
    """
    from flux_pipeline.resources import ImageProducer

    with ImageProducer.with_values(settings).open(reading=reading) as producer:
        yield producer
