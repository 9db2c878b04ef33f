"""Options: checked, frozen, and cheap to import."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from flux_pipeline.emulator.options import EmulatorOptions, realistic


@pytest.mark.parametrize(
    "wrong",
    [
        {"latency": 1},
        {"cold_start_rate": 2},
        {"time_scale": -1},
        {"creates_per_minute": 0},
        {"reply_shape": "xml"},
        {"page_size": 0},
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        EmulatorOptions.model_validate(wrong)


def test_options_are_frozen() -> None:
    with pytest.raises(ValidationError):
        EmulatorOptions().seed = 1


def test_keys_are_not_in_the_repr() -> None:
    assert "r8_secret" not in repr(EmulatorOptions(accepted_keys=frozenset({"r8_secret"})))


def test_every_option_says_what_it_is() -> None:
    assert all(field.description for field in EmulatorOptions.model_fields.values())


def test_the_realistic_ones_are_slow_and_sometimes_cold() -> None:
    assert realistic(3).seed == 3
    assert realistic().latency_median == 2.5
    assert realistic().cold_start_rate == 0.02


def test_reading_options_loads_no_server() -> None:
    code = (
        "import sys, flux_pipeline.emulator.options;"
        "print(sorted({'starlette', 'uvicorn', 'PIL', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
