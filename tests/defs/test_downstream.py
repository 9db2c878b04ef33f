"""Assets of one's own downstream of a prompt set, in the same run: they run for what is there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import create_execution_plan, execute_run
from dagster._core.execution.plan.state import KnownExecutionState

from flux_pipeline.defs.build import without_beta_warnings
from flux_pipeline.defs.downstream import NO_FAILURE
from flux_pipeline.defs.partitions import range_tags
from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.prompts import PromptSet
from tests.defs.asset_runner import QUIET, AssetRunner, checks

FOUR = "prompts: {castle: a castle, harbour: a harbour, moon: the moon, zoo: a zoo}"
ALL = ("castle", "zoo")
MOON_FAILS = FaultPlan(outcome={"failed_pa": 1.0}, only_prompts="moon", cap=100)


@dataclass
class Followers:
    """Four assets behind a prompt set: of each of its assets, and one over all partitions."""

    runner: AssetRunner
    prompt_set: PromptSet
    policy: dg.BackfillPolicy | None = None
    condition: dg.AutomationCondition[dg.AssetKey] | None = None
    ran: list[str] = field(default_factory=list)

    def definitions(self) -> dg.Definitions:
        with without_beta_warnings():
            return dg.Definitions.merge(self.runner.definitions(self.prompt_set), self._own())

    def _own(self) -> dg.Definitions:
        keys, ran = self.runner.keys, self.ran
        partitions = dg.StaticPartitionsDefinition(list(self.prompt_set.partition_keys()))

        @dg.asset(
            key=self.key("posters"),
            deps=[keys.images],
            partitions_def=partitions,
            backfill_policy=self.policy,
            automation_condition=self.condition,
        )
        def posters(context: dg.AssetExecutionContext) -> None:
            ran.extend(["posters", *context.partition_keys])

        @dg.asset(key=self.key("texts"), deps=[keys.prompts], partitions_def=partitions)
        def texts() -> None:
            ran.append("texts")

        @dg.asset(key=self.key("album"), deps=[keys.images, posters])
        def album() -> None:
            ran.append("album")

        @dg.asset(key=self.key("link"), deps=[keys.gallery])
        def link() -> None:
            ran.append("link")

        return dg.Definitions(assets=[posters, texts, album, link])

    def key(self, name: str) -> dg.AssetKey:
        return dg.AssetKey([f"{self.runner.name}_own", name])

    @property
    def keys(self) -> list[dg.AssetKey]:
        return [self.key(name) for name in ("posters", "texts", "album", "link")]

    def run(
        self, *without: dg.AssetKey, first: str = "castle", last: str = "zoo"
    ) -> dg.ExecuteInProcessResult:
        self.ran.clear()
        chosen = set(self.runner.keys.all | set(self.keys)).difference(without)
        return (
            self.definitions()
            .resolve_implicit_global_asset_job_def()
            .execute_in_process(
                instance=self.runner.instance,
                run_config=QUIET,
                tags=range_tags(dg.PartitionKeyRange(first, last)),
                asset_selection=list(chosen),
                raise_on_error=False,
            )
        )

    def again_from_failure(self, run_id: str, *, only: str = "") -> bool:
        """Execute a run again as the web interface does for "from failure"; whether it succeeds.

        ``only`` one step: so it is where the executor reads the log of the run.
        """
        self.ran.clear()
        instance = self.runner.instance
        parent = instance.get_run_by_id(run_id)
        assert parent is not None
        steps, known = KnownExecutionState.build_resume_retry_reexecution(instance, parent)
        steps = [only] if only else steps
        job = (
            self.definitions()
            .resolve_implicit_global_asset_job_def()
            .get_subset(asset_selection=set(parent.asset_selection or ()))
        )
        plan = create_execution_plan(
            job,
            run_config=QUIET,
            step_keys_to_execute=list(steps),
            known_state=known,
            tags=parent.tags,
        )
        run = instance.create_run_for_job(
            job,
            execution_plan=plan,
            run_config=QUIET,
            tags=range_tags(dg.PartitionKeyRange(*ALL)),
            parent_run_id=run_id,
            root_run_id=run_id,
            asset_selection=parent.asset_selection,
        )
        return execute_run(InMemoryJob(job), run, instance).success


def events(result: dg.ExecuteInProcessResult, key: dg.AssetKey) -> Sequence[str | None]:
    """The partitions of an asset's events, in order."""
    found = [
        event.step_materialization_data.materialization
        for event in result.get_asset_materialization_events()
    ]
    return sorted(str(each.partition) for each in found if each.asset_key == key)


def failed_steps(result: dg.ExecuteInProcessResult) -> Mapping[str, str]:
    failures = result.filter_events(lambda event: event.is_step_failure)
    said = {event.step_key: event.step_failure_data.user_failure_data for event in failures}
    return {str(step): str(data and data.description) for step, data in said.items()}


def test_assets_downstream_run_in_the_same_run_and_each_partition_has_one_event(
    runner: AssetRunner,
) -> None:
    mine = Followers(runner, runner.write(FOUR))
    result = mine.run()
    assert result.success
    assert set(mine.ran) == {
        "posters",
        "castle",
        "harbour",
        "moon",
        "zoo",
        "texts",
        "album",
        "link",
    }
    for key in (runner.keys.prompts, runner.keys.images):
        assert events(result, key) == ["castle", "harbour", "moon", "zoo"]
    assert events(result, runner.keys.gallery) == ["None"]
    assert checks(result)[NO_FAILURE]


def test_where_a_partition_failed_the_followers_run_and_the_run_fails_with_the_reason(
    runner: AssetRunner,
) -> None:
    runner.serve(MOON_FAILS)
    mine = Followers(runner, runner.write(FOUR))
    result = mine.run()
    assert not result.success
    assert {"posters", "texts", "album", "link"} <= set(mine.ran)
    (step, said), *others = failed_steps(result).items()
    assert step.endswith(NO_FAILURE)
    assert said.startswith("1 of 4 partitions failed\nmoon: ")
    assert not others
    assert runner.statuses(mine.prompt_set) == {
        "castle": "MATERIALIZED",
        "harbour": "MATERIALIZED",
        "moon": "FAILED",
        "zoo": "MATERIALIZED",
    }
    paid = runner.usage().creates_accepted
    assert not mine.again_from_failure(result.run_id, only=step)
    assert runner.usage().creates_accepted == paid
    runner.serve(FaultPlan())
    assert mine.again_from_failure(result.run_id)
    assert runner.usage().creates_accepted == paid + 1
    assert set(runner.statuses(mine.prompt_set).values()) == {"MATERIALIZED"}
    assert {"posters", "texts", "album", "link"} <= set(mine.ran)


def test_where_nothing_was_made_nothing_downstream_runs(runner: AssetRunner) -> None:
    runner.serve(MOON_FAILS)
    mine = Followers(runner, runner.write(FOUR))
    result = mine.run(first="moon", last="moon")
    assert list(failed_steps(result)) == [runner.name]
    assert mine.ran == []
    assert mine.run(first="zoo", last="zoo").success
    assert "zoo" in mine.ran


def test_without_followers_the_step_itself_fails(runner: AssetRunner) -> None:
    runner.serve(MOON_FAILS)
    mine = Followers(runner, runner.write(FOUR))
    result = mine.run(*mine.keys)
    assert list(failed_steps(result)) == [runner.name]
    runner.serve(FaultPlan())
    assert mine.again_from_failure(result.run_id)


def test_a_run_without_the_check_fails_at_the_step(runner: AssetRunner) -> None:
    """Nothing else would fail it."""
    runner.serve(MOON_FAILS)
    mine = Followers(runner, runner.write(FOUR), dg.BackfillPolicy.single_run())
    chosen = dg.AssetSelection.assets(runner.keys.images, mine.key("posters")).without_checks()
    job = dg.define_asset_job("mine", chosen, executor_def=dg.in_process_executor)
    both = dg.Definitions.merge(mine.definitions(), dg.Definitions(jobs=[job]))
    result = both.resolve_job_def("mine").execute_in_process(
        instance=runner.instance,
        run_config=QUIET,
        tags=range_tags(dg.PartitionKeyRange(*ALL)),
        raise_on_error=False,
    )
    assert list(failed_steps(result)) == [runner.name]
    assert mine.ran == []


def test_the_job_of_a_set_has_no_step_but_its_own(runner: AssetRunner) -> None:
    job = runner.definitions(runner.write(FOUR)).resolve_job_def(runner.keys.job)
    assert [node.name for node in job.nodes] == [runner.name]


@pytest.mark.parametrize(
    "condition", [dg.AutomationCondition.eager(), dg.AutomationCondition.any_deps_updated()]
)
def test_automation_asks_for_the_followers_of_what_was_made(
    runner: AssetRunner, condition: dg.AutomationCondition[dg.AssetKey]
) -> None:
    runner.serve(MOON_FAILS)
    mine = Followers(runner, runner.write(FOUR), condition=condition)
    only = dg.AssetSelection.assets(mine.key("posters"))
    asked = dg.evaluate_automation_conditions(mine.definitions(), runner.instance, only)
    assert not asked.get_requested_partitions(mine.key("posters"))
    assert not mine.run(*mine.keys).success
    after = dg.evaluate_automation_conditions(
        mine.definitions(), runner.instance, only, cursor=asked.cursor
    )
    made = {"castle", "harbour", "zoo"}
    assert after.get_requested_partitions(mine.key("posters")) == made
