"""Which heavy libraries importing each command, the core and the definitions loads.

Every row is what a person waits for. A library that is new in a row makes that command slower for
everybody who starts it; one that has gone is taken out of its row. Modules that load the same are
imported in one process, and each in its own where that process differs, to say which it is.
"""

import subprocess
import sys

import pytest

HEAVY = (
    "aiohttp",
    "boto3",
    "c2pa",
    "dagster",
    "duckdb",
    "httpx",
    "jinja2",
    "matplotlib",
    "numpy",
    "pandas",
    "PIL",
    "psycopg",
    "pyarrow",
    "pydantic",
    "rich",
    "sqlalchemy",
    "starlette",
    "yaml",
)
"""Libraries that take more than 20 ms of CPU to import."""


_TABLE = {"numpy", "pyarrow", "pydantic", "yaml"}
_PROVIDER = {"PIL", "aiohttp", "httpx", "rich", "sqlalchemy"}

EXPECTED: dict[str, set[str]] = {
    "flux_pipeline": set(),
    "flux_pipeline.settings": set(),
    "flux_pipeline.project": set(),
    "flux_pipeline.cli.announcement": set(),
    "flux_pipeline.cli.component_project": set(),
    "flux_pipeline.produce.core": {"pydantic"},
    "flux_pipeline.emulator.options": {"pydantic"},
    "flux_pipeline.provenance.trace": {"numpy", "pyarrow"},
    "flux_pipeline.cli": set(),
    "flux_pipeline.cli.workspace": _TABLE,
    "flux_pipeline.cli.run": _TABLE | {"rich"},
    "flux_pipeline.cli.plan": _TABLE | {"rich"},
    "flux_pipeline.cli.verify": _TABLE | _PROVIDER,
    "flux_pipeline.cli.reindex": _TABLE | {"rich"},
    "flux_pipeline.cli.rescue": _TABLE | _PROVIDER,
    "flux_pipeline.cli.held": _TABLE | _PROVIDER,
    "flux_pipeline.cli.trace": set(),
    "flux_pipeline.cli.reproduce": set(),
    "flux_pipeline.cli.spend": _TABLE,
    "flux_pipeline.cli.alert": _TABLE,
    "flux_pipeline.cli.model": set(),
    "flux_pipeline.cli.schema": set(),
    "flux_pipeline.cli.emulator": set(),
    "flux_pipeline.cli.init": set(),
    "flux_pipeline.cli.doctor": set(),
    "flux_pipeline.cli.completion": set(),
    "flux_pipeline.definitions": _TABLE | _PROVIDER | {"dagster"},
}


def alike() -> list[list[str]]:
    """The modules, those that load the same together."""
    together: dict[frozenset[str], list[str]] = {}
    for module, libraries in EXPECTED.items():
        together.setdefault(frozenset(libraries), []).append(module)
    return list(together.values())


@pytest.mark.parametrize("modules", alike(), ids="+".join)
def test_importing_it_loads_no_more_than_it_did(modules: list[str]) -> None:
    expected = EXPECTED[modules[0]]
    if loaded_by(*modules) != expected:
        assert {module: loaded_by(module) for module in modules} == dict.fromkeys(modules, expected)


def loaded_by(*modules: str) -> set[str]:
    names = ", ".join(modules)
    code = f"import sys, {names}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())
