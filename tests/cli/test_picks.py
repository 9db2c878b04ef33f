"""Tests of flux_pipeline.cli.picks."""

from flux_pipeline.cli.picks import ChoicePlan
from flux_pipeline.prompts.picks import Pick
from flux_pipeline.publish.choice import Chosen


def test_what_is_not_decided_or_not_found_is_one_line_each_with_its_rows() -> None:
    picks = [Pick(prompt=name, take=2, row=row) for row, name in enumerate("abcdef", start=1)]
    found = Chosen(
        (),
        ("owl", "2026-11-01/fox"),
        stale=(Pick(prompt="fox", output=3, partition="2026-11-01", row=7),),
        unknown=tuple(reversed(picks)),
        waiting=(picks[0], picks[1]),
    )
    named = [f"{pick.prompt} take 2 (row {pick.row})" for pick in picks]
    assert [*ChoicePlan("file", "a.csv", "hold", found).lines()] == [
        "2 prompts without a pick, which are held: owl, 2026-11-01/fox",
        "1 pick whose picture was made anew since: 2026-11-01 fox take 1 image 3 (row 7)",
        f"6 picks name nothing: {', '.join(named[:5])} and 1 more",
        f"2 picks wait for their pictures: {', '.join(named[:2])}",
    ]


def test_a_pick_that_names_nothing_is_shown_with_the_nearest_name() -> None:
    pick = Pick(prompt="owls", row=3)
    plan = ChoicePlan("file", found=Chosen((), (), (), (pick,), nearest={"owls": "owl"}))
    assert [*plan.lines()] == ["1 pick names nothing: owls take 1 (row 3: did you mean owl?)"]
    assert plan.as_json()["unknown"] == [
        {"row": 3, "prompt": "owls", "take": 1, "output": 1, "nearest": "owl"}
    ]


def test_what_is_decided_says_nothing() -> None:
    assert [*ChoicePlan("file", "a.csv", "hold", Chosen((), (), (), ())).lines()] == []
    assert [*ChoicePlan("all").lines()] == []
