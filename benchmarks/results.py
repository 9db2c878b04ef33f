"""Results as JSON, with the facts of the machine: what ``benchmarks.table`` makes its table of."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
_LIBRARIES = ("flux-pipeline", "dagster", "httpx", "aiohttp", "boto3", "sqlalchemy", "pillow")


def save(name: str, values: dict[str, Any], folder: Path = FOLDER) -> None:
    """Write one benchmark's figures to ``<folder>/<name>.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"figures": values, "machine": machine()}, indent=2)
    (folder / f"{name}.json").write_text(f"{text}\n")


def load(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """The figures and the machine of every benchmark that was saved, by name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def machine() -> dict[str, Any]:
    """What the figures depend on, and nothing that names a machine or a person."""
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "system": f"{platform.system()} {platform.release()}",
        "libc": " ".join(platform.libc_ver()),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
    }


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()
