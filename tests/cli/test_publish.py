"""`flux-pipeline publish` and `unpublish`, from the first delivery to a picture taken down."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flux_pipeline.image_maker import make_images
from flux_pipeline.testing import open_studio
from tests.servers.processes import run_command

Run = Callable[..., tuple[int, str, str]]
SHOP = """
model: lucataco/flux-schnell-lora
defaults: {aspect_ratio: '1:1'}
choose: first
publish: {to: "file:public", name: "{set}/{name}-{variant}.{format}", variants: {web: {width: 32}}}
prompts: {shoe: a shoe, hat: a hat}
"""
PLAIN = "model: lucataco/flux-schnell-lora\nprompts: {owl: an owl}\n"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Calls the command; gives exit code, standard output and standard error."""
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "shop.yaml").write_text(SHOP)
    (configs / "plain.yaml").write_text(PLAIN)
    with open_studio(tmp_path / "studio") as studio:
        list(make_images(configs / "shop.yaml", producer=studio.image_producer))
        environ = studio.environment

        def call(*arguments: str) -> tuple[int, str, str]:
            (tmp_path / "errors.txt").unlink(missing_ok=True)
            code, _ = run_command(arguments, folder=tmp_path, environ=environ)
            output, errors = tmp_path / "output.json", tmp_path / "errors.txt"
            return code, output.read_text(), errors.read_text()

        yield call


def test_pictures_are_published_taken_down_and_published_again(tmp_path: Path, run: Run) -> None:
    index = tmp_path / "public/index.json"
    code, output, _ = run("publish", "--dry-run")
    assert (code, index.exists()) == (0, False)
    assert output.startswith("shop: 2 images, 2 files: 2 would be written, 0 unchanged; file:///")
    code, output, _ = run("publish", "--json")
    printed = json.loads(output)
    counts = {"images": 2, "files": 2, "written": 2, "unchanged": 0, "removed": 0, "undecided": 0}
    assert (code, printed["total"]) == (0, counts)
    assert counts.items() <= printed["sets"]["shop"].items()
    assert printed["sets"]["shop"]["index"] == index.as_uri()
    web = tmp_path / "public/shop/hat-web.webp"
    assert web.is_file()
    code, output, _ = run("unpublish", "shop", "hat", "--reason", "recalled", "--by", "Ann")
    assert (code, web.exists(), "hat" in index.read_text()) == (0, False, False)
    assert output.startswith("shop: hat taken down, 1 file removed; file:///")
    assert run("publish")[1].startswith("shop: 1 image, 1 file: 0 written, 1 unchanged; 1 taken")
    original = next((tmp_path / "studio/store/images/shop").glob("hat-*"))
    code, output, _ = run("trace", str(original), "--json")
    event = json.loads(output)["publishing"][0]
    assert (event["action"], event["by"], event["reason"]) == ("taken down", "Ann", "recalled")
    assert run("publish", "--again", "shoe")[0] == 2
    assert run("publish", "--again", "hat", "--by", "Bob")[0] == 0
    assert web.is_file()
    assert "allowed again" in run("trace", str(original))[1]
    web.write_bytes(b"changed by somebody else")
    code, output, _ = run("unpublish", "shop", "hat", "--reason", "recalled", "--json")
    problem = "shop/hat-web.webp: was changed by others since, and is not removed"
    assert (code, json.loads(output)["problems"]) == (1, [problem])
    assert web.read_bytes() == b"changed by somebody else"


def test_what_is_not_delivered_or_wrong_is_said(tmp_path: Path, run: Run) -> None:
    code, _, errors = run("publish", "plain")
    assert (code, "plain.yaml: publish: is not there" in errors) == (2, True)
    code, _, errors = run("unpublish", "shop", "hut", "--reason", "x")
    assert (code, "index.json: has no picture hut; it has 0 others" in errors) == (2, True)
    (tmp_path / "public/shop").mkdir(parents=True)
    (tmp_path / "public/shop/hat-web.webp").write_bytes(b"theirs")
    code, output, errors = run("publish")
    assert (code, output.startswith("shop: 1 image, 1 file: 1 written")) == (1, True)
    assert "shop: hat: shop/hat-web.webp: lies in file:///" in errors
