"""`flux-pipeline model`: one command adds a model, and others show it and what has changed."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flux_pipeline.cli import main
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.prompts import load_prompt_set
from tests.cli.conftest import Command

REPLIES = Path(__file__).parents[1] / "models" / "replies"
PAINTER = ("acme/painter", "--file", str(REPLIES / "enums_by_reference.json"))
DEV = "black-forest-labs/flux-dev"


Invoke = Callable[..., tuple[int, str, str]]


@pytest.fixture
def invoke(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Invoke:
    """Runs what asks no provider in this process; gives exit code, output and errors."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("FLUX_CONFIGS", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["flux-pipeline", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(str(ended.value.code or 0)), out, err

    return run


def printed(folder: Path) -> str:
    return (folder / "output.json").read_text()


def test_add_writes_the_file_prints_its_path_and_says_what_it_guessed(
    invoke: Invoke, folder: Path
) -> None:
    code, output, errors = invoke("model", "add", *PAINTER)

    assert (code, output) == (0, "configs/models/acme/painter.yaml\n")
    assert "seed                seed" in errors
    assert "price               unknown: write price: {usd_per_image: …}" in errors
    (folder / "configs/new.yaml").write_text("model: acme/painter\nprompts: {a: a fox}")
    loaded = load_prompt_set(folder / "configs/new.yaml")
    assert [request.served_as for request in loaded.requests()] == [f"acme/painter:{'70' * 32}"]


def test_add_asks_the_provider_and_keeps_the_price_and_roles_of_a_built_in_contract(
    command: Command, folder: Path
) -> None:
    code, _, errors = command("model", "add", DEV)

    assert code == 0
    assert printed(folder) == f"configs/models/{DEV}.yaml\n"
    assert "price               0.025 USD an image" in errors
    code, shown, _ = command("model", "show", DEV, "--json")
    assert shown["from"] == f"configs/models/{DEV}.yaml"
    assert (shown["version"], shown["seed"], shown["count"]) == ("official", "seed", "num_outputs")


def test_a_reply_that_does_not_say_whether_a_model_is_official_leaves_it_official(
    invoke: Invoke, folder: Path
) -> None:
    path = folder / "configs/models/acme/painter.yaml"
    invoke("model", "add", *PAINTER)
    path.write_text(path.read_text().replace("'" + "70" * 32 + "'", "official"))
    assert "version: official" in path.read_text()
    code, _, errors = invoke("model", "add", *PAINTER)
    assert (code, errors.splitlines()[0]) == (0, "as it was")


def test_a_file_that_differs_is_shown_and_replaced_by_force_alone_and_its_price_stays(
    invoke: Invoke, folder: Path
) -> None:
    invoke("model", "add", *PAINTER)
    path = folder / "configs/models/acme/painter.yaml"
    mended = path.read_text().replace("price: {}", "price: {usd_per_image: 0.5}")
    mended = mended.replace("default: 3.5", "default: 3")
    path.write_text(mended)

    code, output, errors = invoke("model", "add", *PAINTER)
    assert (code, output, path.read_text()) == (1, "", mended)
    assert "-  guidance: {type: number, minimum: 0, maximum: 10, default: 3}" in errors
    assert "+  guidance: {type: number, minimum: 0, maximum: 10, default: 3.5}" in errors
    assert "is there already, and differs: --force takes over what is shown" in errors

    code, output, _ = invoke("model", "add", *PAINTER, "--force")
    assert (code, output) == (0, "configs/models/acme/painter.yaml\n")
    assert path.read_text() == mended.replace("default: 3}", "default: 3.5}")
    code, _, errors = invoke("model", "add", *PAINTER)
    assert code == 0
    assert errors.startswith("as it was")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("acme/captions", "--file", "makes_text"), 1, "acme/captions makes text, not pictures"),
        (("acme/logos", "--file", "makes_svg"), 1, "acme/logos makes SVG, not pictures"),
        (("acme/other", "--file", "makes_text"), 2, "is about acme/captions, not about acme/other"),
        (
            (f"acme/painter:{'ab' * 32}", "--file", "enums_by_reference"),
            2,
            "describes version 7070",
        ),
        (("painter",), 2, "a model is named OWNER/NAME"),
        (("acme/painter:1",), 2, "a version is 64 hex digits"),
        (("../painter",), 2, "a model is named OWNER/NAME"),
        (("acme/painter", "--file", "missing"), 2, "missing.json: can't be read"),
    ],
)
def test_what_cannot_be_added_says_why_and_writes_nothing(
    invoke: Invoke, folder: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    given = [
        str(REPLIES / f"{word}.json") if before == "--file" else word
        for before, word in zip(("", *arguments), arguments, strict=False)
    ]
    result, output, errors = invoke("model", "add", *given)
    assert (result, output) == (code, "")
    assert message in errors
    assert not (folder / "configs/models").exists()


def test_a_model_that_the_provider_does_not_have_says_what_else_can_be_done(
    command: Command, folder: Path
) -> None:
    code, _, errors = command("model", "add", "nobody/nothing")
    assert (code, printed(folder)) == (1, "")
    assert "save the reply of GET /v1/models/nobody/nothing" in errors


def test_a_real_provider_without_a_key_is_not_asked(command: Command) -> None:
    code, _, errors = command("model", "add", DEV, FLUX_PROVIDER="replicate", FLUX_API_KEY="")
    assert code == 2
    assert "FLUX_API_KEY" in errors


def test_list_names_own_models_first_with_price_pictures_and_seed(
    invoke: Invoke,
) -> None:
    invoke("model", "add", *PAINTER)
    _, output, _ = invoke("model", "list", "--json")
    rows = {row["model"]: row for row in json.loads(output)}
    assert next(iter(rows)) == "acme/painter"
    assert rows["acme/painter"]["from"] == "configs/models/acme/painter.yaml"
    assert (rows["acme/painter"]["price"], rows["acme/painter"]["price_known"]) == (
        "unknown",
        False,
    )
    assert rows["google/nano-banana"]["seed"] is None
    assert rows["google/nano-banana"]["pictures"] == ["image_input"]
    _, output, _ = invoke("model", "list")
    assert "acme/painter" in output.splitlines()[1]


def test_show_tells_every_input_and_gives_a_prompt_set_that_loads(
    invoke: Invoke, folder: Path
) -> None:
    _, output, _ = invoke("model", "show", "nightmareai/real-esrgan")
    assert "a picture: a file or an https address" in output
    _, output, _ = invoke("model", "show", "nightmareai/real-esrgan", "--json")
    (folder / "configs/first.yaml").write_text(json.loads(output)["example"])
    assert list(load_prompt_set(folder / "configs/first.yaml").requests())
    code, _, errors = invoke("model", "show", "black-forest-labs/flux-deev")
    assert code == 2
    assert "did you mean black-forest-labs/flux-dev?" in errors


def test_schema_completes_the_inputs_of_this_folders_models(invoke: Invoke, folder: Path) -> None:
    invoke("model", "add", *PAINTER)
    _, output, _ = invoke("schema")
    schema = json.loads(output)
    assert "acme/painter" in schema["properties"]["model"]["enum"]
    assert "acme.painter.hf_lora" in schema["$defs"]


@pytest.fixture
def drifting(folder: Path) -> Iterator[EmulatorServer]:
    """A provider that has changed a default of one model under the same version."""
    drift = {DEV: {"guidance": 3.9}}
    (folder / "configs/dev.yaml").write_text(
        f"model: {DEV}\nprompts: {{a: a fox, b: {{prompt: an owl, guidance: 2}}}}"
    )
    with EmulatorServer(EmulatorOptions(time_scale=0, default_drift=drift)) as server:
        yield server


def test_check_finds_a_default_that_drifted_and_the_prompts_that_it_touches(
    command: Command, folder: Path, drifting: EmulatorServer
) -> None:
    changed = {"FLUX_PROVIDER": drifting.origin}
    code, checked, _ = command("model", "check", "--json", **changed)

    assert code == 1
    found = {each["model"]: each for each in checked["models"]}
    assert found["lucataco/flux-schnell-lora"]["changes"] == []
    (change,) = found[DEV]["changes"]
    assert (change["what"], change["input"], change["after"]) == ("default", "guidance", 3.9)
    assert found[DEV]["sets"] == {"dev": {"prompts": 2, "made_anew": 1, "refused": 0}}

    command("model", "check", DEV, **changed)
    assert "prompt set dev: 2 prompts, of which 1 would be made anew and 0 refused" in printed(
        folder
    )
    command("model", "add", DEV, "--force", **changed)
    code, _, _ = command("model", "check", "--json", **changed)
    assert code == 0


def test_check_agrees_with_a_provider_that_has_changed_nothing(command: Command) -> None:
    code, checked, _ = command("model", "check", "--json")
    assert (code, checked["ok"]) == (0, True)
    assert [each["model"] for each in checked["models"]] == ["lucataco/flux-schnell-lora"]


def test_check_of_a_provider_that_tells_nothing_of_models_ends_with_2(command: Command) -> None:
    with EmulatorServer(EmulatorOptions(models_enabled=False)) as silent:
        code, checked, _ = command("model", "check", "--json", FLUX_PROVIDER=silent.origin)
    assert code == 2
    assert "tells nothing of models" in checked["models"][0]["unanswered"]
