"""``make bench-variants``: compares rendering variants with plain Pillow, in CPU and memory.

Plain Pillow opens a picture for each variant, shrinks it and saves it, as most scripts do: with no
labels, colour profiles, sharpening and checks, and no colour and placeholder for an index. Both use
the same encoders with the same settings, in turns, in one process. What counts is the CPU of the
median, user and system. Memory is that of this process after each of many pictures.
"""

import argparse
import io
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from statistics import median

from matplotlib.cbook import get_sample_data
from PIL import Image, ImageOps

from flux_pipeline.images.labels import Label, label_image
from flux_pipeline.images.variants import ENCODER_OPTIONS, ENCODERS, render_variants
from flux_pipeline.variant import VariantSpec

SETS = {
    "hero webp": [VariantSpec(name="hero", width=1600, quality=82)],
    "thumb avif": [
        VariantSpec(name="thumb", width=320, height=320, fit="cover", format="avif", quality=63)
    ],
    "thumb jpg": [
        VariantSpec(name="thumb", width=320, height=320, fit="cover", format="jpg", quality=82)
    ],
    "thumb png": [VariantSpec(name="thumb", width=320, height=320, fit="cover", format="png")],
    "webp 1600, 800, 400 and avif 320": [
        *(VariantSpec(name=str(side), width=side, quality=80) for side in (1600, 800, 400)),
        VariantSpec(name="thumb", width=320, height=320, fit="cover", format="avif", quality=63),
    ],
}


def photograph(side: int) -> bytes:
    """A labelled webp of a photograph, as a model makes them and a run stores them."""
    with get_sample_data("grace_hopper.jpg") as file:  # type: ignore[union-attr]
        image = ImageOps.fit(Image.open(file).convert("RGB"), (side, side))
    out = io.BytesIO()
    image.save(out, "WEBP", quality=90)
    label = Label(
        prompt="a portrait, studio light",
        prediction_id="ufawqhfynnddngldkgtslldrkq",
        request_sha256="a" * 64,
        image_sha256="b" * 64,
        output_index=0,
        model="owner/name",
        version="c" * 64,
        input='{"prompt":"a portrait, studio light"}',
        created_at=datetime(2026, 11, 22, tzinfo=UTC),
    )
    return label_image(out.getvalue(), label)


def plain_pillow(body: bytes, specs: Sequence[VariantSpec]) -> None:
    for spec in specs:
        image = Image.open(io.BytesIO(body)).convert("RGB")
        if spec.fit == "cover":
            assert spec.width is not None
            assert spec.height is not None
            image = ImageOps.fit(image, (spec.width, spec.height), Image.Resampling.LANCZOS)
        else:
            image.thumbnail((spec.width or image.width, image.height), Image.Resampling.LANCZOS)
        options = dict(ENCODER_OPTIONS[spec.format])
        if spec.effective_quality is not None:
            options["quality"] = spec.effective_quality
        image.save(io.BytesIO(), ENCODERS[spec.format], **options)


def cpu(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return 1000 * (time.process_time() - begun)


def resident_mb() -> float:
    if sys.platform != "linux":
        return peak_mb()
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no file of a folder
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.variants", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=200, help="for the memory")
    parser.add_argument("--side", type=int, default=2048, help="px, of the pictures")
    options = parser.parse_args()
    body = photograph(options.side)
    print(f"webp of {options.side} x {options.side} px, {len(body) / 1000:.0f} KB; ms of CPU")
    print(f"{'variants of a picture':34} {'plain':>8} {'ours':>8} {'ratio':>6}")
    for name, specs in SETS.items():
        plain, ours = [], []
        for number in range(options.rounds + 1):
            rounds = [
                (plain, lambda specs=specs: plain_pillow(body, specs)),
                (ours, lambda specs=specs: render_variants(body, specs)),
            ]
            for taken, work in rounds if number % 2 else reversed(rounds):
                found = cpu(work)
                if number:
                    taken.append(found)
        each = 1 / len(specs)
        a, b = median(plain) * each, median(ours) * each
        print(f"{name:34} {a:8.1f} {b:8.1f} {b / a:6.2f}")
    measure_memory(body, options.pictures)


def measure_memory(body: bytes, pictures: int) -> None:
    specs = SETS["thumb jpg"]
    print(f"\nmemory over {pictures:,} pictures, MB")
    for number in range(pictures + 1):
        render_variants(body, specs)
        if number in {0, pictures // 10, pictures // 2, pictures}:
            print(f"after {number:6,}: {resident_mb():6.1f}")
    print(f"peak        : {peak_mb():6.1f}")


if __name__ == "__main__":
    main()
