"""`flux-pipeline trace` as a person calls it, on what one run made."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.lineage.schema import SCHEMA
from tests.images.samples import strip_xmp
from tests.servers.dagster_home import write_dagster_home
from tests.servers.processes import make_images_of, run_command

Trace = Callable[..., tuple[int, str, str]]
PROMPTS = {
    "chinese": "雪中的城堡，水彩",
    "arabic": "قلعة تحت الثلج",
    "emoji": "a family 👨\u200d👩\u200d👧 at a castle 🏰",
    "html": "<script>alert('x')</script> & <b>a castle</b>",
    "sly": "a castle\n\u202eelif ton si siht\u2028 \U000e0041[red]",
}
KEYS = {"answered_by", "certainty", "distance", "record", "command", "notes", "sources"}
KEYS |= {"current", "publishing"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trace")
    (folder / "configs").mkdir()
    write_dagster_home(folder)
    words = {"model": "lucataco/flux-schnell-lora", "defaults": {"aspect_ratio": "9:21"}}
    (folder / "configs" / "tale.yaml").write_text(yaml.safe_dump({**words, "prompts": PROMPTS}))
    options = EmulatorOptions(time_scale=0)
    with EmulatorServer(options) as server:
        environ = {"FLUX_PROVIDER": f"{server.origin}/replicate", "FLUX_API_KEY": "test-key"}
        make_images_of(["tale"], folder=folder, environ=environ)
    return folder


@pytest.fixture
def trace(folder: Path) -> Trace:
    """Gives exit code, standard output and standard error."""

    def call(*arguments: str, **environ: str) -> tuple[int, str, str]:
        (folder / "errors.txt").unlink(missing_ok=True)
        code, _ = run_command(["trace", *arguments], folder=folder, environ=environ)
        return code, (folder / "output.json").read_text(), (folder / "errors.txt").read_text()

    return call


def image(folder: Path, name: str) -> Path:
    (path,) = (folder / "data" / "store" / "images" / "tale").glob(f"{name}-*.webp")
    return path


def answer(trace: Trace, *arguments: str) -> dict[str, Any]:
    code, output, _ = trace(*arguments, "--json")
    assert code == 0
    found: dict[str, Any] = json.loads(output)
    return found


def test_a_file_is_answered_with_every_column_and_a_command(folder: Path, trace: Trace) -> None:
    copy = folder / "holiday picture.webp"
    shutil.copy(image(folder, "chinese"), copy)

    found = answer(trace, str(copy))

    assert set(found) == KEYS
    assert (found["answered_by"], found["certainty"], found["distance"]) == ("xmp", "certain", 0)
    assert set(found["record"]) == set(SCHEMA.names)
    assert found["record"]["prompt"] == PROMPTS["chinese"]
    request = found["record"]["request_sha256"]
    assert shlex.split(found["command"]) == ["flux-pipeline", "reproduce", request]


def test_a_file_is_said_to_have_no_content_credentials(folder: Path, trace: Trace) -> None:
    path = image(folder, "chinese")
    assert answer(trace, str(path))["record"]["credentials"] == "none"
    _, output, _ = trace(str(path))
    assert "\ncredentials  none\n" in output


def test_a_stripped_file_is_answered_by_its_pixels(folder: Path, trace: Trace) -> None:
    copy = folder / "stripped.webp"
    copy.write_bytes(strip_xmp(image(folder, "html").read_bytes()))

    found = answer(trace, str(copy))

    assert (found["answered_by"], found["record"]["prompt_name"]) == ("pixels", "html")


def test_addresses_keys_and_ids_name_the_same_image(folder: Path, trace: Trace) -> None:
    path = image(folder, "emoji")
    record = answer(trace, str(path))["record"]
    key = f"images/tale/{path.name}"

    for target in (record["uri"], f"file:{path}", f"file:///elsewhere/{key}", key):
        assert answer(trace, target)["answered_by"] == "xmp"
    for target in (record["prediction_id"], record["request_sha256"][:8], record["image_sha256"]):
        found = answer(trace, target)
        assert (found["answered_by"], found["record"]) == ("id", record)


@pytest.mark.parametrize("name", PROMPTS)
def test_text_is_shown_and_can_not_act_upon_a_terminal(
    folder: Path, trace: Trace, name: str
) -> None:
    code, output, errors = trace(str(image(folder, name)))

    assert (code, errors) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in output.splitlines())
    expected = {
        "sly": r"a castle\n\u202eelif ton si siht\u2028 \U000e0041[red]",
    }
    assert lines["prompt"] == expected.get(name, PROMPTS[name])
    assert "reproduce" in output
    assert "0.0030 USD" in output


def test_json_is_plain_ascii(folder: Path, trace: Trace) -> None:
    code, output, _ = trace("--set", "tale", "--json")
    assert code == 0
    assert output.isascii()


def test_what_is_not_known_is_said_with_exit_code_1(folder: Path, trace: Trace) -> None:
    stranger = folder / "stranger.png"
    stranger.write_bytes(b"no image")

    code, output, errors = trace(str(stranger), "--json")
    assert code == 1
    assert json.loads(output) == {
        **dict.fromkeys(KEYS),
        "publishing": [],
        "sources": [],
        "notes": ["no label of ours; not an image (text/plain, 8 bytes)"],
    }
    code, output, errors = trace("nosuchthing")
    assert (code, output) == (1, "")
    assert "not known: nosuchthing" in errors


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("file:/nosuch/file.webp", "can't be read"),
        ("https://example.com/x.webp", "nothing is fetched from the web"),
        ("s3://b/../x", "not below b"),
        ("configs", "Is a directory"),
    ],
)
def test_what_can_not_be_read_is_named(trace: Trace, target: str, words: str) -> None:
    code, _, errors = trace(target)
    assert code == 1
    assert words in errors


class TestForward:
    def test_by_prompt_set_and_run(self, folder: Path, trace: Trace) -> None:
        run_id = answer(trace, str(image(folder, "html")))["record"]["run_id"]
        for arguments, names in (
            (("--prompt", "CASTLE"), {"emoji", "html", "sly"}),
            (("--prompt", "城堡"), {"chinese"}),
            (("--set", "tale"), set(PROMPTS)),
            (("--run", run_id, "--prompt", "<b>"), {"html"}),
        ):
            code, output, _ = trace(*arguments, "--json")
            records = json.loads(output)
            assert code == 0
            assert {record["prompt_name"] for record in records} == names
            assert set(records[0]) == {*SCHEMA.names, "current"}

    def test_a_limit_says_that_there_is_more(self, trace: Trace) -> None:
        code, output, errors = trace("--set", "tale", "--limit", "2")
        assert (code, len(output.splitlines())) == (0, 2)
        assert "and more" in errors
        assert "\u202e" not in output

    def test_nothing_found_gives_exit_code_1(self, trace: Trace) -> None:
        code, output, _ = trace("--prompt", "no such words", "--json")
        assert (code, json.loads(output)) == (1, [])


@pytest.mark.parametrize("arguments", [(), ("x", "--set", "tale"), ("--set", "a", "--limit", "0")])
def test_a_wrong_call_gives_exit_code_2(trace: Trace, arguments: tuple[str, ...]) -> None:
    code, _, errors = trace(*arguments)
    assert code == 2
    assert "Usage" in errors


def test_outside_of_a_project_it_says_that_there_is_no_table_here(tmp_path: Path) -> None:
    code, _ = run_command(["trace", "abcdefgh12"], folder=tmp_path, environ={})

    said = (tmp_path / "errors.txt").read_text()
    assert code == 1
    assert f"there is no lineage table in file://{tmp_path}/data/store" in said
    assert "set FLUX_STORE" in said
