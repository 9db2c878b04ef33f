from pathlib import Path

from flux_pipeline.emulator.server import EmulatorServer
from tests.cli.conftest import Command, Make

COUNTS = {"requests", "unchanged", "new", "held", "usd", "seconds"}


def test_plan_tells_what_is_new_and_what_it_costs_and_sends_nothing(
    command: Command, server: EmulatorServer
) -> None:
    code, output, _ = command("plan", "--json")

    assert code == 0
    assert set(output["total"]) >= COUNTS
    assert (output["total"]["new"], output["total"]["usd"]) == (3, 0.009)
    assert set(output["sets"]["tale"]["partitions"]) == {"king", "frog"}
    assert server.usage().creates_received == 0


def test_what_was_made_is_unchanged_and_placeholders_are_refused_for_a_real_provider(
    command: Command, make: Make, server: EmulatorServer
) -> None:
    make("tale")

    _, output, _ = command("plan", "--json")

    assert output["sets"]["tale"]["unchanged"] == 2
    assert output["total"]["new"] == 1
    created = server.usage().creates_accepted

    for verb in ("plan", "run"):
        code, _, errors = command(verb, "tale", "--json", FLUX_PROVIDER="replicate")
        assert code == 1
        assert "is for the emulator's placeholders, and the provider is a real one" in errors
        assert "FLUX_STORE and FLUX_LEDGER" in errors
    assert server.usage().creates_accepted == created


def test_plan_shows_each_new_edited_and_removed_prompt_with_its_text_and_parameters(
    command: Command, make: Make, folder: Path
) -> None:
    make("tale")
    edited = (folder / "configs/tale.yaml").read_text().replace("a frog", "a green frog")
    (folder / "configs/tale.yaml").write_text(edited.replace("king: a king", "queen: a queen"))

    _, output, _ = command("plan", "tale", "--show", "--json")

    shown = {each["name"]: each for each in output["sets"]["tale"]["prompts"]}
    assert {name: each["change"] for name, each in shown.items()} == {
        "queen": "new",
        "frog": "edited",
        "king": "removed",
    }
    (frog,) = shown["frog"]["inputs"]
    assert (frog["prompt"], frog["aspect_ratio"]) == ("a green frog", "9:21")
    assert isinstance(frog["seed"], int)
    assert shown["king"]["inputs"][0]["prompt"] == "a king"

    command("plan", "tale", "--show")
    printed = (folder / "output.json").read_text()
    assert "edited  frog: a green frog\n" in printed
    assert "removed king: a king\n" in printed


def test_plan_and_run_count_the_same_images_and_both_say_the_requests(
    command: Command, folder: Path
) -> None:
    (folder / "configs/four.yaml").write_text(
        "model: lucataco/flux-schnell-lora\nprompts: {a: {prompt: four, num_outputs: 4}}\n"
    )
    _, planned, _ = command("plan", "four", "--json")
    _, made, _ = command("run", "four", "--json")

    assert planned["total"]["in_images"]["new"] == made["total"]["stored"] == 4
    assert planned["total"]["requests"] == made["total"]["requests"] == 1
    assert planned["emulated"]
    assert made["emulated"]


def test_plan_counts_what_follows_through_a_chain_and_says_that_it_is_an_estimate(
    command: Command, folder: Path
) -> None:
    (folder / "configs/big.yaml").write_text(
        'model: nightmareai/real-esrgan\nprompts: {big: {each: tale, image: "{image}"}}\n'
    )
    _, before, _ = command("plan", "tale", "big", "--json")
    assert (before["sets"]["big"]["new"], before["sets"]["big"]["following"]) == (2, 2)

    command("plan", "tale", "big")
    printed = (folder / "output.json").read_text()
    assert "2 requests follow from pictures that are not made yet: an estimate" in printed

    code, made, _ = command("run", "tale", "big", "--json")
    assert code == 0
    assert made["sets"]["big"]["stored"] == 2

    _, after, _ = command("plan", "tale", "big", "--json")
    assert (after["sets"]["big"]["unchanged"], after["total"]["following"]) == (2, 0)


def test_plan_says_what_the_file_of_picks_comes_to_and_refuses_a_broken_one(
    command: Command, make: Make, folder: Path
) -> None:
    prompts = "{owl: {prompt: an owl, takes: 2}, fox: a fox, cat: a cat}"
    (folder / "configs/shop.yaml").write_text(
        f"model: lucataco/flux-schnell-lora\nprompts: {prompts}\nchoose: shop.csv\n"
    )
    picks = folder / "configs/shop.csv"
    picks.write_text(f"prompt,take,image_sha256\nowl,2,\nfox,1,{'0f' * 32}\nowl,7,\nelk,,\n")

    make("shop")
    _, after, _ = command("plan", "shop", "--json")
    picks.write_text("prompt,take\nowl,two\n,1\n")
    code, _, errors = command("plan", "shop", "--json")

    assert after["sets"]["shop"]["choice"] == {
        "kind": "file",
        "file": "configs/shop.csv",
        "chosen": 1,
        "undecided": ["cat"],
        "stale": [{"row": 2, "prompt": "fox", "take": 1, "output": 1}],
        "unknown": [
            {"row": 3, "prompt": "owl", "take": 7, "output": 1},
            {"row": 4, "prompt": "elk", "take": 1, "output": 1},
        ],
        "waiting": [],
    }
    assert code == 2
    assert 'shop.csv:2: row 1: take is "two"' in errors
    assert "shop.csv:3: row 2: prompt is blank" in errors
