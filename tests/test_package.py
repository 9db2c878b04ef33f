"""What is installed: the wheel's files, and the types that a project of one's own sees."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OWN_PROJECT = """\
import dagster as dg
from flux_pipeline import AlertSender, ImageProducer, PromptSet

key = dg.EnvVar("REPLICATE_API_TOKEN")
ImageProducer(provider="replicate", api_key=key, store="file:./store", usd_per_day=5)
AlertSender(), PromptSet
ImageProducer(stoer="file:./store")
ImageProducer(concurrency="many")
AlertSender(web="https://example.com")
ImageProducer().keep
"""
LEFT_OUT = """\
[mypy]
strict = True
pretty = False
[mypy-dagster._core.*,dagster.components.*,sqlalchemy.*,psycopg.*,alembic.*,boto3.*,botocore.*,\
httpx.*,aiohttp.*,anyio.*,websockets.*,cryptography.*,pyarrow.*,pandas.*,numpy.*,matplotlib.*,\
PIL.*,upath.*,jinja2.*,yaml.*,click.*,rich.*]
follow_imports = skip
"""
"""Nothing of these is in a field's type, and to read them takes mypy twelve seconds of CPU."""
MISTAKES = {
    7: 'Unexpected keyword argument "stoer" for "ImageProducer"; did you mean "store"?',
    8: 'Argument "concurrency" to "ImageProducer" has incompatible type "str"; expected "int |'
    ' None"',
    9: 'Unexpected keyword argument "web" for "AlertSender"',
    10: '"ImageProducer" has no attribute "keep"',
}


def build(source: Path, folder: Path, kind: str) -> Path:
    """Build as `uv build` and pip do, but with the backend that is installed already."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind]
    subprocess.run([*command, "--directory", folder], cwd=source, check=True, capture_output=True)
    (built,) = folder.iterdir()
    return built


def package_files(folder: Path) -> set[str]:
    files = (each for each in folder.glob("flux_pipeline/**/*") if each.is_file())
    return {each.relative_to(folder).as_posix() for each in files if each.suffix != ".pyc"}


def test_a_wheel_made_of_the_source_archive_holds_every_file_of_the_package(tmp_path: Path) -> None:
    archive = build(ROOT, tmp_path / "sdist", "sdist")
    with tarfile.open(archive) as files:
        # Not an argument: Python 3.11 has that since 3.11.4 alone.
        files.extraction_filter = getattr(tarfile, "data_filter", None)
        files.extractall(tmp_path / "unpacked")  # noqa: S202 - it is our own
    (source,) = (tmp_path / "unpacked").iterdir()

    with zipfile.ZipFile(build(source, tmp_path / "wheel", "wheel")) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert held == package_files(ROOT)
    assert "flux_pipeline/py.typed" in held


def test_a_misspelled_field_is_an_error_in_a_project_of_ones_own(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    own = tmp_path / "own.py"
    own.write_text(OWN_PROJECT)
    options, folder = mypy_options(pytestconfig.rootpath / ".mypy_cache", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--hide-error-codes", *options, own],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )

    lines = [line.partition("own.py:")[2] for line in done.stdout.splitlines()]
    found = dict(line.split(": error: ") for line in lines if ": error: " in line)
    assert {int(line): message for line, message in found.items()} == MISTAKES, done.stdout


def mypy_options(cache: Path, folder: Path) -> tuple[list[str | Path], Path]:
    """With what `make lint` knows already, or else with a cache of its own; and the folder for it.

    It takes one second of CPU then, or eight in which mypy reads Dagster and pydantic.
    """
    known = cache / f"{sys.version_info.major}.{sys.version_info.minor}"
    if known.is_dir():
        shutil.copytree(known, folder / "cache" / known.name)
        config = ROOT / "pyproject.toml"
        return ["--config-file", config, "--cache-dir", folder / "cache"], ROOT
    (folder / "mypy.ini").write_text(LEFT_OUT)
    return ["--cache-dir", cache / "own_project"], folder
