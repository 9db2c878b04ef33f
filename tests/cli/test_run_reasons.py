"""What `run` says of images that are missing: one line a kind, and what a person has to do."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from tests.servers.dagster_home import write_dagster_home
from tests.servers.processes import make_images_of, run_command

MANY = 12
FAST = EmulatorOptions(time_scale=0, render="cheap")
ELSEWHERE = FAST.model_copy(update={"output_origin": "https://pictures.example"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A set of twelve prompts in two partitions."""
    (tmp_path / "configs").mkdir()
    prompts = "".join(f"  p{number}: picture {number}\n" for number in range(MANY))
    (tmp_path / "configs/tale.yaml").write_text(
        "model: lucataco/flux-schnell-lora\npartitions: {by: shard, count: 2}\n"
        f"prompts:\n{prompts}"
    )
    write_dagster_home(tmp_path)
    return tmp_path


@contextmanager
def serving(
    folder: Path, options: EmulatorOptions = FAST, faults: FaultPlan | None = None
) -> Iterator[EmulatorServer]:
    """A provider that remembers what it has made when it is started again."""
    with EmulatorServer(options, faults, state_dir=folder / "provider") as running:
        yield running


def environment(server: EmulatorServer) -> dict[str, str]:
    return {"FLUX_PROVIDER": f"{server.origin}/replicate", "FLUX_API_KEY": "test-key"}


def make(folder: Path, server: EmulatorServer, **more: str) -> None:
    """Ask for the images of the prompt set, without Dagster's run."""
    make_images_of(["tale"], folder=folder, environ=environment(server) | more)


def call(
    folder: Path, server: EmulatorServer, *arguments: str, **more: str
) -> tuple[int, list[str], list[str]]:
    """Exit code, and the lines of standard output and standard error."""
    environ = environment(server) | {"COLUMNS": "200"}
    (folder / "errors.txt").unlink(missing_ok=True)
    code, _ = run_command(arguments, folder=folder, environ=environ | more)
    printed = (folder / "output.json").read_text().splitlines()
    return code, printed, (folder / "errors.txt").read_text().splitlines()


def reasons(printed: list[str]) -> list[str]:
    """The lines between the table and the addresses."""
    return [line for line in printed if " x " in line or line.startswith(("note: ", "and "))]


def totals(folder: Path, server: EmulatorServer, **more: str) -> tuple[int, Mapping[str, int]]:
    code, printed, _ = call(folder, server, "run", "--json", **more)
    return code, json.loads(printed[0])["total"]


def test_a_host_that_is_not_allowed_stops_creating_and_says_so_once(folder: Path) -> None:
    with serving(folder, ELSEWHERE) as server:
        code, printed, errors = call(folder, server, "run", FLUX_CONCURRENCY="1")

        paid = server.usage().creates_accepted
    assert (code, paid) == (1, 5)
    stopped, open_, *others = reasons(printed)
    assert others == []
    assert stopped.startswith(f"{MANY - paid} x not sent: nothing more is created, because 5 times")
    assert "set FLUX_OUTPUT_HOSTS=replicate.delivery,*.replicate.delivery,pictures.ex" in stopped
    assert open_.startswith(f"{paid} x paid, not stored yet, about 59 minutes left; the next run")
    assert "`flux-pipeline rescue` fetches it: such as prediction " in open_
    # On a busy machine it takes longer than ten seconds, and then says how far it is.
    said = [line for line in errors if " images, " not in line]
    assert said[1:] == ["tale: 2 of 2 partitions failed"]


def test_what_a_run_advises_for_what_is_not_stored_is_true_at_once(folder: Path) -> None:
    with serving(folder, ELSEWHERE) as server:
        make(folder, server, FLUX_CONCURRENCY="1")
        paid = server.usage().creates_accepted
        code, printed, _ = call(folder, server, "rescue")
        assert (code, printed[0]) == (1, f"{paid} left over; now {paid} succeeded")
        assert printed[1].startswith(f"{paid} x paid, not stored yet, about 59 minutes left; ")
        code, printed, _ = call(folder, server, "plan", "--json")
        total = json.loads(printed[0])["total"]
        assert (total["resumed"], total["new"]) == (paid, MANY - paid)

    with serving(folder) as server:  # as if the host were allowed now
        code, printed, _ = call(folder, server, "rescue")
        assert (code, printed) == (0, [f"{paid} left over; now {paid} stored"])
        make(folder, server)
        assert server.usage().creates_accepted == MANY


def test_the_reasons_on_standard_error_are_few_where_the_output_is_json(folder: Path) -> None:
    with serving(folder, ELSEWHERE) as server:
        code, printed, errors = call(folder, server, "run", "--json", FLUX_CONCURRENCY="1")

    total = json.loads(printed[0])["total"]
    assert (code, len(printed), total["failed"], total["created"]) == (1, 1, MANY, 5)
    said = "\n".join(errors)
    assert said.count("5 times in a row") <= 2  # a line a partition at most
    assert f"not sent: {MANY - 5} requests" in said
    assert (
        "paid and not stored yet: 5 requests of 0.0150 USD (emulated), about 59 minutes left"
        in said
    )


def test_failures_that_differ_by_an_id_are_one_line_with_a_count(folder: Path) -> None:
    faults = FaultPlan(outcome={"failed_permanent": 1.0}, cap=100)
    with serving(folder, faults=faults) as server:
        code, printed, _ = call(folder, server, "run", FLUX_CONCURRENCY="4")
        failed = server.usage().creates_accepted

    lines = reasons(printed)
    assert code == 1
    assert len(lines) == (1 if failed == MANY else 2)
    assert f"{failed} x prediction " in lines[-1]
    assert "failed: Cannot load LoRA weights" in lines[-1]


def test_a_wrong_prefix_stops_the_run_once_and_nothing_of_it_stays(folder: Path) -> None:
    with serving(folder) as server:
        wrong = f"{server.origin}/nosuch"
        code, printed, _ = call(folder, server, "run", FLUX_PROVIDER=wrong)
        (line,) = reasons(printed)
        assert (code, line.startswith(f"{MANY} x not sent: the provider answered 404")) == (1, True)
        assert server.usage().creates_accepted == 0

        make(folder, server)
        assert server.usage().creates_accepted == MANY


def test_a_store_that_fails_is_said_once_and_what_is_paid_is_stored_when_it_is_back(
    folder: Path,
) -> None:
    with serving(folder) as server:
        make(folder, server)
        (folder / "configs/more.yaml").write_text(
            "model: lucataco/flux-schnell-lora\nprompts: {a: another}\n"
        )
        (folder / "data/store").rename(folder / "moved")
        code, printed, errors = call(folder, server, "run")
        said = "\n".join([*printed, *errors])
        assert (code, "Traceback" in said) == (1, False)
        assert said.count("knows images that are in") == 1
        assert not (folder / "data/store").exists()
        assert server.usage().creates_accepted == MANY

        (folder / "moved").rename(folder / "data/store")
        code, total = totals(folder, server)
        assert (code, total["unchanged"], total["stored"]) == (0, MANY, 1)
