"""The long runs of chains: three steps, uploads, and a model without a seed, killed at random.

As in ``test_torture.py`` a short form of each runs in `make test`.
"""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.reliability.chain_run import (
    CHAIN_FAULTS,
    STEPS,
    Chain,
    ChainBooks,
    OtherProvider,
    emulator_process,
    read_chain_books,
    work_on_chain,
)
from tests.reliability.long_run import Load, Workers, disturb, kill, quick_policy, with_policy
from tests.reliability.test_torture import Say, lengths, long, short
from tests.servers.picture_provider import PictureProvider, picture_provider
from tests.servers.processes import start_program

CHAIN = {"faults": CHAIN_FAULTS, "concurrency": 8}
# Inputs that can't be read fail at the provider, and are asked for again as often as they do.
PATIENT = {"failed_tries": 50, "gone_patience": 30.0}


SHORT = short(
    4,
    2,
    **CHAIN
    | {"policy": quick_policy(visibility=0.6, expected_seconds=0.05, **PATIENT), "latency": 0.05},
)
LONG = long(
    200,
    100,
    **CHAIN,
    latency=0.4,
    list_delay=5.0,
    seconds=(0.2, 1.2),
    policy=quick_policy(visibility=8.0, **PATIENT),
)
LENGTHS = lengths(SHORT, LONG)


@LENGTHS
def test_a_killed_chain_loses_nothing_pays_nothing_twice_and_uses_the_right_bytes(
    load: Load, tmp_path: Path, say: Say
) -> None:
    with emulator_process(tmp_path / "provider", load) as provider:
        chain = Chain(Workers(tmp_path, provider.origin, load, work_on_chain), provider)
        disturb(chain.scene, kill)
        books = read_chain_books(chain)
        say_chain(say, "chain, SIGKILL", chain, books)
        assert_all_is_right(chain, books)

        edited = range(0, load.predictions, 4)
        chain.change(edited)
        chain.scene.disturbed = 0
        disturb(chain.scene, kill)
        again = read_chain_books(chain)
        say_chain(say, "chain, a quarter made anew", chain, again)
        assert_all_is_right(chain, again)


@LENGTHS
def test_a_killed_chain_is_right_at_a_provider_whose_pictures_differ_every_time(
    load: Load, tmp_path: Path, say: Say
) -> None:
    # Some files end between the create and the start.
    options = PictureProvider(
        list_delay=load.list_delay,
        queue_seconds=(load.latency / 4, 2.6 * load.latency),
        file_seconds=max(2.5 * load.latency, 1.0),
    )
    with picture_provider(options) as served:
        provider = OtherProvider(served)
        chain = Chain(Workers(tmp_path, provider.origin, load, work_on_chain), provider)
        disturb(chain.scene, kill)
        books = read_chain_books(chain)
    say_chain(say, "chain, SIGKILL, another provider", chain, books)

    assert_all_is_right(chain, books)


@pytest.mark.torture
def test_a_killed_chain_without_a_list_holds_what_it_can_not_prove(
    tmp_path: Path, say: Say
) -> None:
    load = with_policy(replace(LONG, has_list=False, concurrency=4), unknown="hold")
    with emulator_process(tmp_path / "provider", load) as provider:
        chain = Chain(Workers(tmp_path, provider.origin, load, work_on_chain), provider)
        disturb(chain.scene, kill)
        books = read_chain_books(chain)
    say_chain(say, "chain, no list, hold", chain, books)

    assert_the_rest_is_held(chain, books)


@lengths(
    with_policy(SHORT, unknown="hold"),
    with_policy(replace(LONG, predictions=LONG.predictions // 2), unknown="hold"),
)
def test_where_a_provider_shows_its_own_copies_of_pictures_nothing_is_paid_twice(
    load: Load, tmp_path: Path, say: Say
) -> None:
    options = PictureProvider(
        list_delay=load.list_delay,
        queue_seconds=(load.latency / 4, 2 * load.latency),
        shows_copies=True,
    )
    with picture_provider(options) as served:
        provider = OtherProvider(served)
        chain = Chain(Workers(tmp_path, provider.origin, load, work_on_chain), provider)
        disturb(chain.scene, kill)
        books = read_chain_books(chain)
    say_chain(say, "chain, a list that shows copies, hold", chain, books)

    assert_the_rest_is_held(chain, books)


def assert_the_rest_is_held(chain: Chain, books: ChainBooks) -> None:
    wrong = (books.paid_twice, books.wrong_bytes, books.wrong_uploads, books.unasked)
    assert wrong == (0, 0, 0, 0)
    assert books.unknown <= books.held
    # Nothing follows from what is held; all the rest is there.
    assert books.stored + books.held == len(chain.asked)


@pytest.mark.torture
def test_the_command_line_killed_in_a_chain_is_right_in_the_end(tmp_path: Path, say: Say) -> None:
    load = long(50, 8, **CHAIN, latency=0.4, list_delay=5.0)
    with emulator_process(tmp_path / "provider", load) as provider:
        chain = Chain(Workers(tmp_path, provider.origin, load), provider)
        (tmp_path / "dagster").mkdir()
        environ = {
            "FLUX_PROVIDER": provider.origin,
            "FLUX_API_KEY": "key-of-the-tests",
            "FLUX_INPUT_FILES": "upload",
            "FLUX_SETTLE_SECONDS": "8",
            "FLUX_CONCURRENCY": "8",
            "FLUX_RATE": "60000",
            "FLUX_STORE": f"file:{tmp_path}/store",
            "FLUX_LEDGER": f"sqlite:///{tmp_path}/ledger.db",
            "DAGSTER_HOME": str(tmp_path / "dagster"),
        }
        dice = random.Random(load.seed)  # noqa: S311
        for _ in range(load.disturbances):
            run = start_program(["run"], folder=tmp_path, environ=environ)
            run.process.join(dice.uniform(3.0, 12.0))
            chain.scene.disturbed += run.process.exitcode is None
            kill(chain.scene, run.process)
        codes: list[int] = []
        while 0 not in codes and len(codes) < load.disturbances:  # what failed is asked for again
            codes.append(start_program(["run"], folder=tmp_path, environ=environ).wait()[0])
        books = read_chain_books(chain)
    say_chain(say, "chain, the command line, SIGKILL", chain, books)

    assert codes[-1] == 0
    assert_all_is_right(chain, books)


def assert_all_is_right(chain: Chain, books: ChainBooks) -> None:
    wanted = STEPS * (chain.drawn + len(chain.changed))
    assert (len(chain.asked), books.stored, books.accepted - books.failed) == (wanted,) * 3
    wrong = (books.paid_twice, books.unknown, books.wrong_bytes, books.wrong_uploads, books.unasked)
    assert wrong == (0, 0, 0, 0, 0)
    assert books.held == 0


def say_chain(say: Say, row: str, chain: Chain, books: ChainBooks) -> None:
    say(
        row,
        predictions=len(chain.asked),
        disturbed=chain.scene.disturbed,
        faults=books.faults,
        unread=books.failed,
        stored=books.stored,
        lost=len(chain.asked) - books.stored - books.held,
        held=books.held,
        paid_twice=books.paid_twice,
        wrong_bytes=books.wrong_bytes,
    )
