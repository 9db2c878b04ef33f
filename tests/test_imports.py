"""Which heavy libraries importing each command, the core and the definitions loads.

Every row is what a person waits for. A library that is new in a row makes that command slower for
everybody who starts it; one that has gone is taken out of its row. Modules that load the same are
imported in one process, and each in its own where that process differs, to say which it is.
"""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.servers.dagster_home import write_dagster_home

HEAVY = (
    "aiohttp",
    "alembic",
    "boto3",
    "botocore",
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


_SETS = {"pydantic", "yaml"}
_TABLE = _SETS | {"numpy", "pyarrow"}
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
    "flux_pipeline.cli.workspace": _SETS,
    "flux_pipeline.cli.run": _SETS | {"rich"},
    "flux_pipeline.cli.plan": _SETS | {"rich"},
    "flux_pipeline.cli.verify": _TABLE | _PROVIDER,
    "flux_pipeline.cli.reindex": _SETS | {"rich"},
    "flux_pipeline.cli.rescue": _TABLE | _PROVIDER,
    "flux_pipeline.cli.publish": {"pydantic", "rich", "yaml"},
    "flux_pipeline.cli.unpublish": {"pydantic", "rich", "yaml"},
    "flux_pipeline.store.s3": {"boto3", "botocore"},
    "flux_pipeline.publish.publisher": _TABLE | {"PIL", "sqlalchemy"},
    "flux_pipeline.cli.held": _TABLE | _PROVIDER,
    "flux_pipeline.cli.trace": set(),
    "flux_pipeline.cli.reproduce": set(),
    "flux_pipeline.cli.spend": _SETS,
    "flux_pipeline.cli.alert": _SETS,
    "flux_pipeline.cli.model": set(),
    "flux_pipeline.cli.schema": set(),
    "flux_pipeline.cli.emulator": set(),
    "flux_pipeline.cli.init": set(),
    "flux_pipeline.cli.doctor": set(),
    "flux_pipeline.cli.completion": set(),
    "flux_pipeline.definitions": _SETS | {"dagster"},
    "flux_pipeline.defs.components": _SETS | {"dagster"},
    "flux_pipeline.defs.launch": _SETS | {"alembic", "dagster", "sqlalchemy"},
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


def test_a_code_location_loads_nothing_that_only_a_run_needs() -> None:
    unneeded = {"anyio", "flux_pipeline.outcomes", "flux_pipeline.produce.brake", "http.client"}
    (definitions,) = (modules for modules in alike() if "flux_pipeline.definitions" in modules)
    assert modules_after(*definitions) & unneeded == set()


CALLS: dict[str, set[str]] = {
    "--help": set(),
    "--version": set(),
    "run --help": _SETS | {"rich"},
    "schema": set(),
    "plan": _SETS | {"rich", "sqlalchemy"},
}
"""Commands as they are typed, and what they load until they have ended."""


@pytest.mark.parametrize("call", CALLS)
def test_calling_it_loads_no_more_than_it_did(call: str, tmp_path: Path) -> None:
    write_set(tmp_path)
    code = (
        "import sys; from flux_pipeline.cli import cli"
        f"; cli.main({call.split()!r}, 'flux-pipeline', standalone_mode=False)"
        f"; print(); print(*set({HEAVY!r}) & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert set(done.stdout.splitlines()[-1].split()) == CALLS[call]


def test_a_run_says_something_before_it_loads_dagster_and_loads_no_more_than_it_did(
    tmp_path: Path,
) -> None:
    write_set(tmp_path)
    write_dagster_home(tmp_path)
    said, loaded = run_and_list_modules(tmp_path)
    assert said[0].startswith("provider emulator (environment), store file:")
    assert "dagster is loaded" in said[1:]
    idle = _TABLE | {"alembic", "dagster", "jinja2", "rich", "sqlalchemy"}
    # With images come the provider's client and the emulator's server, and no pandas.
    assert loaded == idle | _PROVIDER | {"starlette", "uvicorn"}
    assert run_and_list_modules(tmp_path)[1] == idle


def run_and_list_modules(folder: Path) -> tuple[list[str], set[str]]:
    """What `flux-pipeline run` says on standard error, and which heavy libraries it loads."""
    code = f"""
import sys

class Announcing:
    def find_spec(self, name, *_):
        if name == "dagster":
            print("dagster is loaded", file=sys.stderr)

sys.meta_path.insert(0, Announcing())
from flux_pipeline.cli import cli
try:
    cli.main(["run"], "flux-pipeline")
finally:
    print()
    print(*set({(*HEAVY, "uvicorn", "numpy.ma", "rich._emoji_codes")!r}) & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "FLUX_PROVIDER": "emulator"},
    )
    return done.stderr.splitlines(), set(done.stdout.splitlines()[-1].split())


def test_completing_a_command_loads_no_other(tmp_path: Path) -> None:
    code = (
        "import sys; from flux_pipeline.cli import main; import atexit"
        "; atexit.register(lambda: sys.stderr.write(' '.join(sys.modules))); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,  # the exit code of an answer is 1
        cwd=tmp_path,
        env={
            "_FLUX_PIPELINE_COMPLETE": "bash_complete",
            "COMP_WORDS": "flux-pipeline pl",
            "COMP_CWORD": "1",
        },
    )
    assert done.stdout.splitlines() == ["plain,plan"]
    assert not [name for name in done.stderr.split() if name.startswith("flux_pipeline.cli.")]


def test_a_command_has_arrow_take_its_memory_where_everything_else_does() -> None:
    code = (
        "from flux_pipeline.cli import main; import atexit, sys; sys.argv = ['', '--version']"
        "; atexit.register(lambda: print(__import__('pyarrow').default_memory_pool().backend_name))"
        "; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "system"


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
@pytest.mark.parametrize("asked", [None, "2"])
def test_numpy_starts_no_threads_in_a_command_unless_somebody_asks_for_them(
    asked: str | None,
) -> None:
    code = (
        "from flux_pipeline.cli import main; import atexit, os, sys; sys.argv = ['', '--version']"
        "; count = lambda: __import__('numpy') and len(os.listdir('/proc/self/task'))"
        "; atexit.register(lambda: print(count())); main()"
    )
    env = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    env |= {"OPENBLAS_NUM_THREADS": asked} if asked else {}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    cores = len(os.sched_getaffinity(0))
    assert int(done.stdout.splitlines()[-1]) == min(int(asked or 1), cores)


def write_set(folder: Path) -> None:
    (folder / "configs").mkdir()
    (folder / "configs/boats.yaml").write_text(
        "model: lucataco/flux-schnell-lora\nprompts: {a: a boat, b: a ship}\n"
    )


def loaded_by(*modules: str) -> set[str]:
    return modules_after(*modules) & set(HEAVY)


@cache
def modules_after(*modules: str) -> frozenset[str]:
    """What a new process has loaded once it has imported these; tests may look at one process."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return frozenset(done.stdout.split())
