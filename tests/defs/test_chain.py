"""Chains in Dagster: one run makes a set and those that follow it, picture by picture."""

from collections import Counter
from dataclasses import dataclass, field

import dagster as dg
import pytest

from flux_pipeline.defs.keys import SetKeys
from flux_pipeline.defs.partitions import range_tags
from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.produce.report import Result, ResultStatus, observing
from flux_pipeline.prompts import PromptSet, in_order, load_prompt_sets
from tests.defs.asset_runner import QUIET, AssetRunner

BOOK = "prompts: {castle: a castle, harbour: a harbour, moon: the moon, zoo: a zoo}\n"
EDIT = 'prompts: {night: {each: SOURCE, prompt: "{prompt} at night", num_outputs: 2}}\n'
AGAIN = 'prompts: {far: {each: SOURCE, prompt: "{prompt}, far away"}}\n'


@dataclass
class Chain:
    """Three sets, of which each is made for the pictures of the one before."""

    runner: AssetRunner
    results: list[Result] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.runner.limits = {"concurrency": 1}
        self.write(BOOK)

    @property
    def names(self) -> tuple[str, str, str]:
        name = self.runner.name
        return name, f"{name}_edit", f"{name}_again"

    def write(self, book: str) -> None:
        first, second, third = self.names
        self.runner.write(book)
        for name, text in ((second, EDIT), (third, AGAIN)):
            source = first if name == second else second
            head = "model: lucataco/flux-schnell-lora\n"
            path = self.runner.folder / f"{name}.yaml"
            path.write_text(head + text.replace("SOURCE", source), encoding="utf-8")

    @property
    def sets(self) -> list[PromptSet]:
        return in_order(load_prompt_sets(self.runner.folder))

    def run(self, *chosen: str, raise_on_error: bool = True) -> dg.ExecuteInProcessResult:
        """Run the job of the chain; of these sets alone where some are named."""
        sets = self.sets
        keys = sets[0].partition_keys()
        named = [key for name in chosen for key in SetKeys(name).ordered]
        self.results.clear()
        with observing(self.results.append):
            return (
                self.runner.definitions(*sets)
                .resolve_job_def(SetKeys(self.runner.name).chain_job)
                .execute_in_process(
                    instance=self.runner.instance,
                    run_config=QUIET,
                    tags=range_tags(dg.PartitionKeyRange(keys[0], keys[-1])),
                    asset_selection=named or None,
                    raise_on_error=raise_on_error,
                )
            )

    def counts(self) -> list[tuple[int, int]]:
        """For each set how many results of the last run were stored, and how many unchanged."""
        found = Counter((each.request.source.prompt_set, each.status) for each in self.results)
        return [
            (found[name, ResultStatus.STORED], found[name, ResultStatus.UNCHANGED])
            for name in self.names
        ]


@pytest.fixture
def chain(runner: AssetRunner) -> Chain:
    return Chain(runner)


def test_one_run_makes_all_a_second_nothing_and_one_after_an_edit_what_follows_from_it(
    chain: Chain,
) -> None:
    assert chain.run().success
    assert chain.counts() == [(4, 0), (4, 0), (8, 0)]
    records = [record for each in chain.results for record in each.records]
    assert len({record.provider for record in records}) == 1
    assert records[0].provider
    assert {record.asset for record in records} == {f"{name}/images" for name in chain.names}
    made = sorted(
        chain.runner.server.usage(predictions=True).predictions, key=lambda one: one.created_at
    )
    order = ["night" in each.input["prompt"] for each in made]
    assert len(made) == 16
    # Each follower begins before the last source.
    assert order.index(True) < len(order) - 1 - order[::-1].index(False)
    for name in chain.names:
        keys = SetKeys(name)
        assert len(chain.runner.instance.get_materialized_partitions(keys.images)) == 4

    assert chain.run().success
    assert chain.counts() == [(0, 4), (0, 4), (0, 8)]
    assert chain.runner.usage().creates_accepted == 16

    chain.write(BOOK.replace("a castle", "a ruin"))
    chain.run()
    assert chain.counts() == [(1, 3), (1, 3), (2, 6)]
    remade = [each for each in chain.results if each.status is ResultStatus.STORED]
    assert {each.request.source.partition for each in remade} == {"castle"}


def test_the_budget_of_a_run_is_not_used_up_by_the_sets_that_follow(chain: Chain) -> None:
    chain.write(BOOK + "budget: {usd_per_run: 0.02}\n")  # 0.012 for its own, 0.06 for all
    run = chain.run()
    assert run.success
    images = SetKeys(chain.names[0]).images
    (budget,) = [
        each
        for each in run.get_asset_check_evaluations()
        if each.asset_key == images and each.check_name == "spend_is_within_budget"
    ]
    assert budget.passed, budget.metadata


def test_followers_alone_are_made_of_what_is_there(chain: Chain) -> None:
    first, second, _ = chain.names
    chain.run(first)
    assert chain.run(second).success
    assert chain.counts() == [(0, 0), (4, 0), (0, 0)]


def test_what_follows_from_a_failed_picture_is_not_sent_and_the_rest_is_made(chain: Chain) -> None:
    chain.runner.serve(FaultPlan(outcome={"failed_pa": 1.0}, only_prompts="the moon", cap=100))
    result = chain.run(raise_on_error=False)
    assert not result.success
    assert chain.counts() == [(3, 0), (3, 0), (6, 0)]
    failed = [each for each in chain.results if each.status is ResultStatus.FAILED]
    assert {each.request.source.partition for each in failed} == {"moon"}
    assert any("source" in each.reason for each in failed)
    chain.runner.serve(FaultPlan())
    assert chain.run().success
    assert chain.counts() == [(1, 3), (1, 3), (2, 6)]


def test_each_set_depends_on_the_one_before_and_on_its_own_prompts(chain: Chain) -> None:
    graph = chain.runner.definitions(*chain.sets).resolve_asset_graph()
    first, second, _ = map(SetKeys, chain.names)
    assert graph.get(second.images).parent_keys == {second.prompts, first.images}


def test_a_chain_sends_again_what_was_lost_as_seldom_as_one_set(chain: Chain) -> None:
    """Five times in a run of this size: without a list, each may pay for an image twice."""
    prompts = ", ".join(f"p{number}: picture {number}" for number in range(8))
    chain.write(f"prompts: {{{prompts}}}\n")
    chain.runner.options = chain.runner.options.model_copy(update={"list_enabled": False})
    chain.runner.serve(FaultPlan(create={"reset_after": 1.0}, only_prompts="at night", cap=1))
    assert not chain.run(raise_on_error=False).success
    inputs = Counter(
        each.input["prompt"] + str(each.input["seed"])
        for each in chain.runner.server.usage(predictions=True).predictions
    )
    assert sum(inputs.values()) - len(inputs) == 5
    assert any(each.status is ResultStatus.HELD for each in chain.results)
