"""What others may import. A name in this table is a promise: files behind it can move."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTING = "flux_pipeline.testing"
"""A module, which imports what its fixture needs."""
PUBLIC = {
    "flux_pipeline": {
        "AlertSender",
        "Image",
        "ImageProducer",
        "Images",
        "PromptSet",
        "SharedAssets",
        "images_of",
        "make_images",
        "read_images",
        "read_lineage",
    },
    "flux_pipeline.emulator": {"EmulatorOptions", "EmulatorServer", "FaultPlan"},
    "flux_pipeline.images": {
        "Label",
        "Manifest",
        "image_sha256",
        "inspect_manifest",
        "read_label",
        "read_manifest",
    },
    "flux_pipeline.lineage": {
        "SCHEMA",
        "ImageRecord",
        "ImageStatus",
        "Snapshot",
        "find_all",
        "find_exact",
        "find_prefix",
        "find_similar",
        "open_snapshot",
        "read_lineage",
    },
    "flux_pipeline.store": {"Store", "StoreOptions", "StoredObject", "open_store"},
    TESTING: {"ImageStudio", "image_studio", "open_studio"},
}
ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
IMPORT = re.compile(r"^from (flux_pipeline[a-z_.]*) import ([^\n]+)", re.MULTILINE)


@pytest.mark.parametrize("package", PUBLIC)
def test_a_package_offers_its_public_names_and_no_other(package: str) -> None:
    module = importlib.import_module(package)

    assert set(module.__all__) == PUBLIC[package]
    assert set(dir(module)) >= PUBLIC[package]
    found = {name: getattr(module, name) for name in PUBLIC[package]}
    assert all(getattr(each, "__name__", name) == name for name, each in found.items())
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = module.Nothing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_import_only_public_names(document: Path) -> None:
    for package, names in IMPORT.findall(document.read_text()):
        assert {name.strip() for name in names.split(",")} <= PUBLIC.get(package, set()), package


@pytest.mark.parametrize("package", [name for name in PUBLIC if name != TESTING])
def test_importing_a_package_imports_nothing_else_of_it(package: str) -> None:
    code = f"import sys, {package}; print(*[m for m in sys.modules if 'flux_pipeline' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert set(done.stdout.split()) == {"flux_pipeline", "flux_pipeline.lazy_names", package}
