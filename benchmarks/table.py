"""Makes the table of ``docs/performance.md`` of the figures in ``benchmarks/results``."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.results import load
from benchmarks.startup import EMPTY_RUN

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
_BEGIN, _END = "<!-- table: python -m benchmarks.table -->\n", "<!-- end of the table -->\n"


def write_table() -> None:
    """Replace the table in the page."""
    text = PAGE.read_text()
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    PAGE.write_text(before + _BEGIN + table(load()) + _END + after)


def table(results: dict[str, dict[str, Any]]) -> str:
    """All figures as Markdown, with the machine of the first of them."""
    rows = [
        row
        for name, rows_of in _ROWS.items()
        if name in results
        for row in rows_of(results[name]["figures"])
    ]
    lines = ["| figure | ours | beside it | ratio |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([_machines(results), "", *lines, ""])


def _machines(results: dict[str, dict[str, Any]]) -> str:
    facts = results["overhead"]["machine"]
    libraries = ", ".join(f"{name} {version}" for name, version in facts["libraries"].items())
    return (
        f"{facts['at']}, commit {facts['commit']}: {facts['cores']} cores ({facts['processor']}),"
        f" {facts['system']}, {facts['libc']}, Python {facts['python']}; load {facts['load']} when"
        f" it began. {libraries}."
    )


def _overhead(figures: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    bare, ours, ratio = figures["bare"], figures["ours"], figures["ratio"]
    for name, words in (("all", "CPU an image"), ("without_decoding", "… without decoding")):
        yield (
            f"{words}, ms",
            f"{ours[name]:.1f}",
            f"bare loop {bare[name]:.1f}",
            f"{ratio[name]:.2f}",
        )
    yield (
        "peak memory, MB",
        f"{ours['peak_mb']:.0f}",
        f"bare loop {bare['peak_mb']:.0f}",
        f"{ours['peak_mb'] / bare['peak_mb']:.2f}",
    )
    yield "the same again, unchanged: CPU an image, ms", f"{figures['unchanged']:.2f}", "", ""


def _costs(figures: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, count in sorted(figures["an image"].items()):
        yield f"{name}, an image", f"{count:,}", "", ""


def _startup(figures: dict[str, float]) -> Iterator[tuple[str, ...]]:
    for name, seconds in figures.items():
        if name in {"import dagster", EMPTY_RUN}:
            continue
        words = name if name.startswith("import") else f"flux-pipeline {name}"
        beside = EMPTY_RUN if "run" in name else "import dagster"
        yield (
            f"`{words}`, s of CPU",
            f"{seconds:.2f}",
            f"{beside} {figures[beside]:.2f}",
            f"{seconds / figures[beside]:.2f}",
        )


def _load(figures: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    cpu = figures["cpu"]
    plain, told = cpu["plain"], f"{figures['sets']} sets of {figures['prompts']:,} prompts"
    for name, seconds in cpu.items():
        if name != "plain":
            yield (
                f"loading {told} ({name}), s of CPU",
                f"{seconds:.2f}",
                f"plain Dagster assets {plain:.2f}",
                f"{seconds / plain:.2f}",
            )


def _whole_run(figures: dict[str, float]) -> Iterator[tuple[str, ...]]:
    bare, ours = figures["bare"], figures["run"]
    yield (
        f"`flux-pipeline run` of {figures['images']:.0f} in shards: CPU an image, ms",
        f"{ours:.1f}",
        f"bare loop {bare:.1f}",
        f"{ours / bare:.2f}",
    )
    yield "… again, unchanged", f"{figures['unchanged']:.2f}", "", ""
    if "few" in figures:
        yield "a run of 10 images, s of CPU", f"{figures['few']:.2f}", "", ""
        words = "a partition by prompt, ms of CPU beyond an image in a shard"
        yield words, f"{figures['partition']:.1f}", "", ""


def _growth(figures: dict[str, dict[str, float]]) -> Iterator[tuple[str, ...]]:
    for count, peak in figures["ours"].items():
        bare = figures["bare"][count]
        words = f"peak memory at {int(count):,} images, MB"
        yield words, f"{peak:.0f}", f"bare loop {bare:.0f}", f"{peak / bare:.2f}"


def _killed(figures: dict[str, dict[str, float]]) -> Iterator[tuple[str, ...]]:
    ours, *others = figures.items()
    for name, other in others:
        yield (
            f"paid twice of {ours[1]['asked']:.0f}, killed half-way and run again",
            f"{ours[1]['twice']:.0f}",
            f"{name}: {other['twice']:.0f}",
            "",
        )


def _peers(figures: dict[str, dict[str, int]]) -> Iterator[tuple[str, ...]]:
    (_, ours), *others = figures.items()
    asked = ours["asked"]
    for name, other in others:
        yield (
            f"paid twice of {asked}, killed half-way and run again",
            f"{ours['twice']}",
            f"{name}: {other['twice']}",
            "",
        )
        yield (
            "… again, unchanged: paid; CPU an image, ms",
            f"{ours['paid unchanged']}; {ours['CPU ms unchanged']}",
            f"{name}: {other['paid unchanged']}; {other['CPU ms unchanged']}",
            "",
        )


def _trace(figures: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, case in figures["cases"].items():
        others = ", ".join(f"{each} {case[each]:.2f}" for each in case if each != "ours")
        yield (
            f"`trace` in {figures['rows']:,} rows ({name}), s of CPU",
            f"{case['ours']:.2f}",
            others,
            "",
        )


def _rate(figures: dict[str, dict[str, float]]) -> Iterator[tuple[str, ...]]:
    for cell, of_cell in figures.items():
        rate, takes, *workers = cell.split("x")
        told = f"{rate} a second, predictions of {takes} s, {(workers or ['1'])[0]} workers"
        calls = f"{of_cell['polls']:.2f} polls, {of_cell['refused']:.1%} refused"
        yield f"{told}: rate used", f"{of_cell['rate used']:.1%}", calls, ""


_ROWS: dict[str, Callable[[dict[str, Any]], Iterator[tuple[str, ...]]]] = {
    "overhead": _overhead,
    "whole_run": _whole_run,
    "growth": _growth,
    "costs": _costs,
    "startup": _startup,
    "load": _load,
    "killed": _killed,
    "peers": _peers,
    "trace": _trace,
    "rate": _rate,
}
"""Of each benchmark its rows, in this order."""


if __name__ == "__main__":
    write_table()
