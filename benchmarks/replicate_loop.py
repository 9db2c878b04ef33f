"""A plain loop of the official client in threads, which skips images that are stored already.

python -m benchmarks.replicate_loop ORIGIN FOLDER IMAGES
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from replicate.client import Client
from replicate.helpers import FileOutput

from flux_pipeline.models import find_model

_THREADS = 32


def main() -> None:
    origin, folder, images = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    model = find_model("lucataco/flux-schnell-lora")
    client = Client(api_token="benchmark", base_url=origin)  # noqa: S106  no secret

    def make(number: int) -> None:
        path = folder / f"{number:05d}.webp"
        if path.exists():
            return
        wanted = {"prompt": "a", "seed": number}
        prediction = client.predictions.create(version=model.version, input=wanted)
        prediction.wait()
        assert prediction.output is not None
        part = path.with_suffix(".part")
        part.write_bytes(FileOutput(prediction.output[0], client).read())
        part.rename(path)

    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(make, range(images)))


if __name__ == "__main__":
    main()
