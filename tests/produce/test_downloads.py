"""How many pictures are in memory between download and store: as many as fit."""

import anyio
import pytest

from flux_pipeline.produce.downloads import MEMORY, Downloads
from tests.provider.virtual_loop import run_virtually

MB = 2**20


@pytest.mark.parametrize(
    ("sizes", "most"),
    [
        ([], 16),
        ([0], 64),
        ([200_000] * 5, 64),
        ([200_000, 4 * MB], 32),
        ([64 * MB], 4),  # some of any size: else one picture would hold up all
        ([64 * MB] + [200_000] * 100, 64),  # the last hundred count
    ],
)
def test_the_largest_of_the_last_pictures_says_how_many(sizes: list[int], most: int) -> None:
    async def main() -> float:
        downloads = Downloads()
        for size in sizes:
            downloads.note_size(size)
        return downloads.limiter.total_tokens

    assert run_virtually(main()) == most
    assert most * max(sizes[-100:], default=8 * MB) <= MEMORY * 2


def test_who_waits_for_a_place_gets_one_when_pictures_turn_out_to_be_small() -> None:
    async def main() -> int:
        downloads = Downloads()
        done = 0

        async def hold() -> None:
            nonlocal done
            async with downloads.limiter:
                done += 1
                await anyio.sleep(10)

        async with anyio.create_task_group() as group:
            for _ in range(40):
                group.start_soon(hold)
            await anyio.sleep(1)
            assert done == 16
            downloads.note_size(MB)
            await anyio.sleep(1)
            return done

    assert run_virtually(main()) == 40
