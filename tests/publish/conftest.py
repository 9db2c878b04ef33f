"""A studio whose prompt set is made, and what is published of it in a folder."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flux_pipeline.image_maker import make_images
from flux_pipeline.prompts import PromptSet, load_prompt_set
from flux_pipeline.publish import publisher
from flux_pipeline.publish.publisher import Publishing, PublishReport, publish_set
from flux_pipeline.testing import ImageStudio, open_studio
from tests.publish.targets import Wrap

HEAD = "model: lucataco/flux-schnell-lora\n"
SHOP = (
    "defaults: {aspect_ratio: '1:1'}\n"
    "prompts:\n"
    "  shoe: {prompt: a red shoe, takes: 2}\n"
    "  hat: a hat\n"
    "  bag: a bag\n"
)
PUBLISH = (
    "choose: first\n"
    "publish:\n"
    "  to: {to}\n"
    "  prune: {prune}\n"
    "  variants:\n"
    "    web: {{width: 64}}\n"
    "    thumb: {{width: 16, height: 16, fit: cover, format: png}}\n"
)

BEFORE = PUBLISH.replace(
    "  variants:", '  name: "{{name}}-{{take}}-{{variant}}.{{format}}"\n  variants:'
)
AFTER = BEFORE.replace("choose: first", "choose: picks.csv").replace("width: 64", "width: 48")
"""The shoe is re-chosen, which gives it other names, and one variant is another."""
WITHOUT_HAT = SHOP.replace("  hat: a hat\n", "")


@dataclass
class Shop:
    """A prompt set that is made, and its target."""

    studio: ImageStudio
    folder: Path
    to: str
    now: datetime = datetime(2026, 11, 30, 8, tzinfo=UTC)

    def write(self, text: str = PUBLISH, prompts: str = SHOP, *, prune: bool = False) -> PromptSet:
        """The prompt set as it says from now on where and what to publish."""
        path = self.folder / "shop.yaml"
        to = text.format(to=self.to, prune=str(prune).lower())
        path.write_text(HEAD + to + prompts, encoding="utf-8")
        return load_prompt_set(path)

    def make(self, prompt_set: PromptSet) -> None:
        list(make_images(prompt_set, producer=self.studio.image_producer))

    @property
    def publishing(self) -> Publishing:
        producer = self.studio.image_producer
        return Publishing(
            store=self.studio.store, ledger=producer.ledger, threads=2, now=lambda: self.now
        )

    def publish(self, prompt_set: PromptSet, *args: Any, **options: Any) -> PublishReport:
        return publish_set(prompt_set, *args, publishing=self.publishing, **options)

    @property
    def public(self) -> Path:
        return self.folder / "public"

    def files(self) -> dict[str, bytes]:
        """What a web site sees in the folder, without what is hidden."""
        found = sorted(path for path in self.public.rglob("*") if path.is_file())
        names = [path.relative_to(self.public).as_posix() for path in found]
        return {
            name: path.read_bytes()
            for name, path in zip(names, found, strict=True)
            if not any(part.startswith(".") for part in name.split("/"))
        }

    def index(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.public / "index.json").read_bytes())
        return found

    def names(self) -> list[str]:
        return [image["name"] for image in self.index()["images"]]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageStudio]:
    """A studio in which the shop's pictures are made: shared, so only to be read."""
    folder = tmp_path_factory.mktemp("made")
    with open_studio(folder) as studio:
        shop = Shop(studio, folder, "")
        shop.make(shop.write(""))
        yield studio


@pytest.fixture
def shop(made: ImageStudio, tmp_path: Path) -> Shop:
    """The shared studio, with a prompt set and a folder of the test's own."""
    return Shop(made, tmp_path, f"file:{tmp_path}/public")


@pytest.fixture
def wrapped(monkeypatch: pytest.MonkeyPatch) -> Callable[[Wrap], None]:
    """Has targets opened by way of a function."""
    plain = publisher.open_target

    def use(wrap: Wrap) -> None:
        monkeypatch.setattr(publisher, "open_target", lambda *a, **k: wrap(plain(*a, **k)))

    return use
