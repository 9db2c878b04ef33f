"""Takes the pictures of the README: `make pictures`.

It makes the prompt sets of `configs/` in a folder of its own, with the emulator, and photographs
the gallery and Dagster's graph of the chain in Chromium. Each becomes a WebP file in `docs/images`,
with twice the pixels that it is shown at, and of at most 120 kB.
"""

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs/images"
CHAIN = ("poster", "poster_night", "poster_cutout")
SHOWN_PIXELS = 800
MOST_BYTES = 120_000
_PATIENCE_SECONDS = 300
_SHOWS_WHOLE_IMAGES = """() => [...document.images]
  .filter(image => image.getBoundingClientRect().top < innerHeight)
  .every(image => image.complete && image.naturalWidth > 200)"""
"""Until then the tiles show thumbnails of 100 px."""
_LEFT, _TOP, _RIGHT, _BOTTOM = 56, 28, 56, 88
"""px from the outermost names of the graph to the picture's edges: nodes are larger than names."""


def main() -> None:
    """Make the images, and photograph them."""
    program = shutil.which("chromium")
    if program is None:
        sys.exit("needs a browser: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="pictures-") as name, sync_playwright() as playwright:
        folder, port = Path(name), free_port()
        environment = fill(folder, port)
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        page = browser.new_page(viewport={"width": 1300, "height": 760}, device_scale_factor=2)
        page.set_default_timeout(_PATIENCE_SECONDS * 1000)
        save("gallery", photograph_gallery(page, folder))
        with web_interface(folder, environment, port):
            save("graph", photograph_graph(page, f"http://127.0.0.1:{port}"))
        browser.close()


def fill(folder: Path, port: int) -> dict[str, str]:
    """Make the images of the shipped prompt sets in a folder; the environment of its programs."""
    shutil.copytree(ROOT / "configs", folder / "configs")
    shutil.copy(ROOT / "workspace.yaml", folder)
    (folder / "home").mkdir()
    shutil.copy(ROOT / "dagster.yaml", folder / "home")
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        "DAGSTER_HOME": str(folder / "home"),
        "FLUX_UI_URL": f"http://127.0.0.1:{port}",
    }
    command = [sys.executable, "-m", "flux_pipeline.cli", "run"]
    subprocess.run(command, cwd=folder, env=environment, check=True)  # noqa: S603  our own command
    return environment


def photograph_gallery(page: Page, folder: Path) -> bytes:
    """The page over all prompt sets, as it opens."""
    page.goto((folder / "data/store/galleries/index.html").as_uri())
    page.wait_for_selector("html[data-ready]")
    page.wait_for_function(_SHOWS_WHOLE_IMAGES)
    return page.screenshot()


def photograph_graph(page: Page, address: str) -> bytes:
    """The assets of the chain, in Dagster's graph, with what is around the graph cut off."""
    selection = " or ".join(f'group:"{name}"' for name in CHAIN)
    page.set_viewport_size({"width": 1700, "height": 1400})
    page.goto(f"{address}/asset-groups~{quote(selection)}")
    page.get_by_text("Hide navigation").click()
    page.get_by_text(CHAIN[-1], exact=True).last.wait_for()
    page.wait_for_load_state("networkidle")
    page.keyboard.press("Alt+e")  # expands all groups, and notes them in the address
    page.wait_for_url("**expanded=**")
    page.reload()  # makes it fit into the window
    names = page.get_by_text("prompts", exact=True)
    names.nth(len(CHAIN) - 1).wait_for()
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(2000)  # until the graph stands still
    boxes = [
        box
        for text in ("prompts", "images", "gallery", *CHAIN)
        for each in page.get_by_text(text, exact=True).all()
        if (box := each.bounding_box()) and box["x"] > names.first.bounding_box()["x"] - 200
    ]
    left = min(box["x"] for box in boxes) - _LEFT
    top = min(box["y"] for box in boxes) - _TOP
    right = max(box["x"] + box["width"] for box in boxes) + _RIGHT
    bottom = max(box["y"] + box["height"] for box in boxes) + _BOTTOM
    return page.screenshot(
        clip={"x": left, "y": top, "width": right - left, "height": bottom - top}
    )


@contextmanager
def web_interface(folder: Path, environment: dict[str, str], port: int) -> Iterator[None]:
    """Run Dagster's web interface on the folder; end it with all that it started."""
    program = Path(sys.executable).with_name("dagster")
    process = subprocess.Popen(  # noqa: S603  our own command
        [program, "dev", "--host", "127.0.0.1", "--port", str(port)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/server_info")
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(address: str) -> None:
    """Ask again and again until it answers. Raises TimeoutError."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with suppress(URLError, ConnectionError, TimeoutError), urlopen(address, timeout=5):  # noqa: S310
            return
        time.sleep(0.5)
    raise TimeoutError(f"{address} did not answer within {_PATIENCE_SECONDS} s")


def save(name: str, screenshot: bytes) -> None:
    """Save a screenshot with twice the pixels it is shown at, as well as fits into the limit."""
    picture = Image.open(io.BytesIO(screenshot)).convert("RGB")
    width = 2 * SHOWN_PIXELS
    picture = picture.resize(
        (width, round(width * picture.height / picture.width)), Image.Resampling.LANCZOS
    )
    for quality in (90, 85, 80, 75, 70, 60, 50):
        body = io.BytesIO()
        picture.save(body, "WEBP", quality=quality, method=6)
        if body.tell() <= MOST_BYTES:
            break
    IMAGES.mkdir(parents=True, exist_ok=True)
    path = IMAGES / f"{name}.webp"
    path.write_bytes(body.getvalue())
    print(f"{path}: {picture.width} x {picture.height} px, {body.tell()} bytes, quality {quality}")


def free_port() -> int:
    """A port that nothing listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
