import os
import subprocess
import sys

import pytest

_BLOCK = 4 << 20  # bytes: a picture of 1024 x 1024 px
_TIMES = 20
_PROGRAM = f"""
import resource, sys
from flux_pipeline.images.allocator import give_back_freed_memory, keep_freed_memory
give_back_freed_memory()
if sys.argv[1] != "given-back" and not keep_freed_memory():
    sys.exit("not taken")

def decode():
    # As libwebp and Pillow do: some blocks at once, each of them written to, and all let go.
    blocks = [bytearray({_BLOCK}) for _ in range(5)]
    for block in blocks:
        block[::4096] = b"x" * {_BLOCK // 4096}

decode()
if sys.argv[1] == "no-more":
    give_back_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({_TIMES}):
    decode()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or "CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="no glibc"
)


def test_the_kernel_hands_out_a_picture_s_pages_once_and_not_for_each_picture() -> None:
    given_back = _page_faults("given-back")
    assert _page_faults("kept") < given_back / 5
    assert _page_faults("no-more") > given_back / 2


def _page_faults(how: str) -> int:
    """Counts what the kernel handed out, of any page size: a count and no time."""
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM, how], capture_output=True, text=True, check=True
    )
    return int(run.stdout)
