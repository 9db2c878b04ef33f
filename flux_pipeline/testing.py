"""A studio for tests: the emulator, a store and a ledger in a folder, and the resource for them.

In the ``conftest.py`` of a project: ``from flux_pipeline.testing import image_studio``. The fixture
needs pytest, which the rest of the package does not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.emulator.usage import Usage
from flux_pipeline.resources import ImageProducer
from flux_pipeline.store.base import Store

__all__ = ["ImageStudio", "image_studio", "open_studio"]


@dataclass(frozen=True, slots=True)
class ImageStudio:
    """One emulated provider, and what is made of it. Nothing leaves this machine."""

    folder: Path
    """Store and ledger lie here."""
    server: EmulatorServer
    image_producer: ImageProducer
    """The resource ``image_producer``, with this provider, store and ledger."""

    @property
    def store(self) -> Store:
        """The open store."""
        return self.image_producer.open_store()

    @property
    def usage(self) -> Usage:
        """What the provider was asked, has accepted and would have charged."""
        return self.server.usage()

    @property
    def environment(self) -> dict[str, str]:
        """The FLUX_* variables of this studio, for what reads settings: commands, ``read_images``.

        With pytest: ``for item in studio.environment.items(): monkeypatch.setenv(*item)``.
        """
        producer = self.image_producer
        return {
            "FLUX_PROVIDER": producer.provider,
            "FLUX_API_KEY": producer.api_key,
            "FLUX_STORE": producer.store,
            "FLUX_LEDGER": producer.ledger,
        }


@contextmanager
def open_studio(folder: Path, faults: FaultPlan | None = None) -> Iterator[ImageStudio]:
    """Serve an emulator until the end of the block: predictions end at once, pictures are small.

    Opened again on the same folder it goes on, and may have other faults.
    """
    options = EmulatorOptions(
        time_scale=0, render="cheap", creates_per_minute=None, calls_per_minute=None
    )
    with EmulatorServer(options, faults, state_dir=folder / "emulator") as server:
        producer = ImageProducer(
            provider=server.origin,
            api_key="a-key-for-tests",
            store=(folder / "store").as_uri(),
            ledger=f"sqlite:///{folder}/ledger.db",
            spool=str(folder / "spool"),
            creates_per_minute=60_000,
            settle_seconds=0.0,
        )
        yield ImageStudio(folder, server, producer)


@pytest.fixture
def image_studio(tmp_path: Path) -> Iterator[ImageStudio]:
    """A studio in the test's own folder."""
    with open_studio(tmp_path / "studio") as studio:
        yield studio
