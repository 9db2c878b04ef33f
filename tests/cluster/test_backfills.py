"""A backfill in several runs over several workers, which share rate, ledger and bucket."""

import yaml

from tests.cluster.cluster import RATE, Cluster

BACKFILL_SECONDS = 1200
WINDOW = 10.0


def shards(prompts: list[str], count: int, per_run: int) -> str:
    """A prompt set in so many shards."""
    return yaml.safe_dump(
        {
            "model": "lucataco/flux-schnell-lora",
            "partitions": {"by": "shard", "count": count, "per_run": per_run},
            "prompts": {f"p{number:03d}": prompt for number, prompt in enumerate(prompts)},
        }
    )


def test_several_workers_make_a_backfill_within_one_rate(cluster: Cluster) -> None:
    prompts = [f"ridge number {number}" for number in range(240)]
    cluster.load("ridge", shards(prompts, 12, 3))
    backfill = cluster.backfill("ridge")
    assert cluster.end(backfill, BACKFILL_SECONDS) == "COMPLETED_SUCCESS"
    runs = cluster.runs(backfill)
    assert [run.status for run in runs] == ["SUCCESS"] * 4
    assert len({cluster.worker_of(run) for run in runs}) >= 2
    paid = cluster.provider.usage()
    assert (paid.creates_accepted, paid.distinct_inputs, paid.duplicates) == (240, 240, ())
    # A limit of their own each would let the workers create twice as many.
    times = [prediction.created_at for prediction in paid.predictions]
    most = max(sum(start <= time < start + WINDOW for time in times) for start in times)
    assert most <= 1.3 * RATE * WINDOW / 60
    assert "240 images, all agree" in cluster.command("verify")


def test_workers_that_were_not_restarted_make_an_edited_prompt_alone(cluster: Cluster) -> None:
    prompts = [f"pond number {number}" for number in range(20)]
    before = cluster.provider.usage(predictions=False).creates_accepted
    for edited in ("", " at night"):
        prompts[7] += edited
        cluster.load("pond", shards(prompts, 4, 2))
        backfill = cluster.backfill("pond")
        assert cluster.end(backfill, BACKFILL_SECONDS) == "COMPLETED_SUCCESS"
    paid = cluster.provider.usage()
    assert [made.input["prompt"] for made in paid.predictions[before + 20 :]] == [prompts[7]]
    assert paid.duplicates == ()
