"""The words of progress: what is done, what it costs, and what is waited for."""

from flux_pipeline.lineage.record import ImageStatus
from flux_pipeline.produce.report import Progress, ResultStatus, Tally, progress_line
from tests.defs.reports import build_record, build_report, build_result


def test_a_line_says_done_and_asked_cost_rate_and_the_time_left() -> None:
    tally = Tally(asked=50, stored=50, usd=0.15)
    assert progress_line(tally, 200, 25.0) == "50/200 images, 0.1500 USD, 2.0/s, 75 s left"


def test_early_and_unknown_things_are_not_guessed() -> None:
    assert progress_line(Tally(), 200, 5.0) == "0/200 images, 0.0000 USD"
    assert progress_line(Tally(asked=3), 0, 1.0) == "3/? images, 0.0000 USD, 3.0/s"


def test_the_time_left_is_said_once_enough_has_been_made_in_this_run() -> None:
    assert progress_line(Tally(), 200, 600.0) == "0/200 images, 0.0000 USD"
    few = Tally(asked=4, stored=4)
    assert "left" not in progress_line(few, 200, 600.0)
    # 100 were there already, and 10 took 20 s: the other 90 take 180 s, not 16 s.
    some = Tally(asked=110, stored=10, unchanged=100)
    assert progress_line(some, 200, 20.0).endswith("180 s left")


def test_what_was_not_made_is_counted() -> None:
    line = progress_line(Tally(asked=9, refused=2, failed=3, held=4), 9, 1.0)
    assert line.endswith("9.0/s, 2 refused, 3 failed, 4 held")


def test_what_is_waited_for_is_named_with_its_count() -> None:
    progress = Progress(200, clock=lambda: 7.0)
    progress.doing.update(
        {"AwaitPermit": 3, "AwaitPoll": 40, "Poll": 2, "StoreOutput": 0, "Close": 5}
    )
    assert progress.line() == ("0/200 images, 0.0000 USD; 42 at the provider; 3 wait for the rate")


def test_a_pause_that_the_provider_wants_comes_first() -> None:
    progress = Progress(9, paused=lambda: 30.0, clock=lambda: 7.0)
    progress.doing["AwaitPermit"] = 9
    assert progress.line().endswith("; the provider wants a pause of 30 s; 9 wait for the rate")


def test_a_partition_is_counted_once_however_often_it_is_asked() -> None:
    report = build_report("a", build_result(), build_result(status=ResultStatus.UNCHANGED))
    assert report.tally is report.tally
    assert (report.tally.stored, report.tally.unchanged, report.tally.requests) == (1, 1, 2)


def test_images_of_one_request_are_counted_each_by_how_it_ended() -> None:
    ends = ("stored", "refused", "failed", "stored")
    images = [build_record(str(n), status=ImageStatus(end)) for n, end in enumerate(ends)]
    tally = build_report("a", build_result(images=images, outputs=4)).tally
    assert (tally.asked, tally.stored, tally.refused, tally.failed) == (4, 2, 1, 1)
    assert not tally.complete
