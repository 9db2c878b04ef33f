"""The asset checks on what a set publishes; `checks` has those on its images, and the form of all.

They speak of the chosen images of the run's partitions, as target and index hold them after it.
"""

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import dagster as dg

from flux_pipeline.defs.checks import MOST_NAMED, Check, Verdict, evaluation
from flux_pipeline.defs.data_versions import Target
from flux_pipeline.defs.run_summary import SAMPLE
from flux_pipeline.errors import ImageError
from flux_pipeline.text import safe_text
from flux_pipeline.variant import VariantSpec

if TYPE_CHECKING:
    from flux_pipeline.publish.index import Entry
    from flux_pipeline.publish.publisher import Prepared, PublishReport


@dataclass(frozen=True, slots=True)
class Published:
    """What the checks of one run are evaluated on."""

    prepared: "Prepared"
    """What was chosen, and where it goes."""
    report: "PublishReport"
    entries: "Mapping[str, Entry]"
    """The index after the run, by name."""
    run_id: str

    @property
    def chosen(self) -> "Iterator[Entry]":
        """The entries of the images that the run's partitions have chosen."""
        found = (self.entries.get(image.name) for image in self.prepared.selection.images)
        return (entry for entry in found if entry is not None)

    @property
    def files(self) -> Iterator[Mapping[str, Any]]:
        """Their files, as the index describes them."""
        return (file for entry in self.chosen for file in entry.values()["files"])


def build_published_check_specs(published: dg.AssetKey) -> Sequence[dg.AssetCheckSpec]:
    """Declare the checks on what one set publishes."""
    return [
        dg.AssetCheckSpec(name, asset=published, description=check.sentence)
        for name, check in PUBLISHED_CHECKS.items()
    ]


def run_published_checks(
    selected: Iterable[dg.AssetCheckKey], published: Published, target: Target | None
) -> Iterator[dg.AssetCheckEvaluation | dg.Output[None]]:
    """Evaluate these checks; the outputs are for the same reason as in ``checks.check_outputs``."""
    for key in sorted(selected):
        row = PUBLISHED_CHECKS[key.name]
        yield evaluation(key, row, row.evaluate(published), target)
        name = dg.AssetCheckSpec(key.name, asset=key.asset_key).get_python_identifier()
        yield dg.Output(None, output_name=name)


def delivered(published: Published) -> Verdict:
    """Whether every chosen image is in the index with all its files."""
    report, images = published.report, published.prepared.selection.images
    missing = [image.name for image in images if image.name not in published.entries]
    wrong = dict.fromkeys(missing, "is not in the index") | dict(report.failed)
    told = {f"{name}: {why}" for name, why in report.failed.items()} | {*report.pick_problems}
    wrong |= dict(_split(problem) for problem in report.problems if problem not in told)
    return Verdict(
        _first(wrong),
        {
            "flux/delivered_images": report.images,
            "flux/written_files": report.written,
            "flux/unchanged_files": report.unchanged,
            "flux/removed_files": report.removed,
        },
    )


def readable(published: Published) -> Verdict:
    """Whether a sample of the files, read back from the target, decodes and is what was written."""
    sample = heapq.nsmallest(SAMPLE, published.files, key=lambda file: _draw(published, file))
    return Verdict(dict(_broken(published, sample)), {"flux/read_files": len(sample)})


def _draw(published: Published, file: Mapping[str, Any]) -> bytes:
    """A random number by which files are drawn evenly, and other ones in every run."""
    return hashlib.sha256(f"{published.run_id}{file['path']}".encode()).digest()


def _broken(published: Published, sample: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    from flux_pipeline.images.inspection import MAX_PIXELS, decode_anything

    for file in sample:
        path = str(file["path"])
        found = published.prepared.target.read(path)
        if found is None:
            yield path, "is gone"
        elif hashlib.sha256(found[0]).hexdigest() != file["sha256"]:
            yield path, "holds other bytes than were published"
        else:
            try:
                decode_anything(found[0], max_pixels=MAX_PIXELS)
            except ImageError as error:
                yield path, str(error)


def sized(published: Published) -> Verdict:
    """Whether every file has the size of its variant; a warning where its picture was too small."""
    specs = {spec.name: spec for spec in published.prepared.renderer.variants}
    wrong: dict[str, str] = {}
    smaller: dict[str, str] = {}
    for file in published.files:
        mistake, is_smaller = find_size_mistake(
            specs[file["variant"]], int(file["width"]), int(file["height"])
        )
        if mistake:
            (smaller if is_smaller else wrong)[str(file["path"])] = mistake
    return Verdict(_first(wrong | smaller), warn=not wrong)


def find_size_mistake(spec: VariantSpec, width: int, height: int) -> tuple[str, bool]:
    """How a file of this size (px) differs from what its variant asks for; empty where it doesn't.

    And whether that is because the picture is smaller, and was not to be enlarged.
    """
    box, real = (spec.width, spec.height), f"{width} x {height} px"
    asked = f"{spec.width or 'any'} x {spec.height or 'any'} px"
    if box in {(None, None), (width, height)}:
        return "", False
    sides = list(zip((width, height), box, strict=True))
    if spec.fit == "contain" or any(most and side > most for side, most in sides):
        return f"{asked} was asked for, this has {real}", False
    if spec.fit == "inside" and any(side == most for side, most in sides):
        return "", False
    if spec.enlarge:
        return f"{asked} was asked for, this has {real}", False
    return f"{asked} was asked for, and the picture is smaller: {real}", True


def current_picks(published: Published) -> Verdict:
    """Whether every pick names a picture, and the one that was looked at."""
    place = f"{published.prepared.prompt_set.choice.path}: "
    problems = published.report.pick_problems
    return Verdict(_first(dict(_split(problem.removeprefix(place)) for problem in problems)))


def decided(published: Published) -> Verdict:
    """Whether something is chosen of every prompt."""
    undecided = published.report.undecided
    return Verdict(
        dict.fromkeys(undecided[:MOST_NAMED], "nothing is chosen of it"),
        {"flux/undecided_prompts": len(undecided)},
    )


def _split(problem: str) -> tuple[str, str]:
    name, _, why = problem.partition(": ")
    return name, safe_text(why)


def _first(wrong: Mapping[str, str]) -> Mapping[str, str]:
    return {name: safe_text(why) for name, why in islice(wrong.items(), MOST_NAMED)}


PUBLISHED_CHECKS: Mapping[str, Check[Published]] = {
    "chosen_images_are_delivered": Check(
        "Every chosen image of the run's partitions is in the index, with all its files.",
        "What is named was not written, and what was published of it before stays. Mend it, and"
        " materialize this again: what is unchanged costs nothing.",
        delivered,
    ),
    "files_are_readable": Check(
        "A sample of twelve files, read back from the target, decodes and has the bytes that were"
        " written.",
        "Somebody wrote over these files or removed them. Materialize this again: files that are"
        " gone or were changed are written anew.",
        readable,
    ),
    "files_have_the_asked_size": Check(
        "Every file has the size of its variant. A warning where its picture is smaller.",
        "A picture is not enlarged without being asked: ask the model for larger ones, make the"
        " variant smaller, or give it `enlarge: true`.",
        sized,
    ),
    "picks_name_current_images": Check(
        "Every pick names an image, and the one that was looked at: none was made anew since.",
        "Open the gallery, look at what is named, choose again, and put the downloaded file in the"
        " place of the old one.",
        current_picks,
    ),
    "nothing_is_undecided": Check(
        "Something is chosen of every prompt that has an image.",
        "Open the gallery, filter for what is undecided, and choose.",
        decided,
        warns=True,
    ),
}
"""Every check by its name, in the order of the UI."""
