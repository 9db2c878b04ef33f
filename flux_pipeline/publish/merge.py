"""Merges what is delivered with what lies in a target: the index and the state that it shall have.

Nothing is read or written here but temporary files. Pictures of other partitions, and those that
are no longer chosen and not pruned, stay in the index; the files of the others are to be removed.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from heapq import nlargest

from flux_pipeline.publish.contents import Contents, sha256_of_pieces
from flux_pipeline.publish.feed import CONTENT_TYPES, MOST_ITEMS, FeedItem, build_feed, feed_path
from flux_pipeline.publish.index import Entry, Index
from flux_pipeline.publish.scratch import DiskDict, Scratch
from flux_pipeline.publish.selection import ChosenImage, Selection
from flux_pipeline.publish.state import PictureFacts, State

_CSV = "text/csv; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Beside:
    """A file that is to lie beside ``index.json``: the same as a table, or a feed."""

    path: str
    content_type: str
    pieces: Callable[[], Iterable[bytes]]
    """Gives its bytes, each time anew."""
    sha256: str


@dataclass(slots=True)
class Plan:
    """What a target shall be."""

    index: Index
    state: State
    has_new_index: bool
    """Whether the index is another one than that which lies there."""
    beside: list[Beside] = field(default_factory=list)
    doomed: list[str] = field(default_factory=list)
    """Paths to be removed, sorted."""
    left: int = 0
    """Files that belong to no picture and stay."""
    problems: list[str] = field(default_factory=list)

    def is_change(self, seen: Contents) -> bool:
        """Whether anything has to be written or removed."""
        return (
            self.has_new_index
            or bool(self.doomed)
            or not all(seen.has_index(each.path, each.sha256) for each in self.beside)
            or sha256_of_pieces(self.state.body()) != seen.state_sha256
        )


def merge(prompt_set: str, selection: Selection, own: State, seen: Contents, *, now: str) -> Plan:
    """What the target shall be that ``seen`` shows, with the pictures of ``own`` delivered.

    ``own`` are the facts of those pictures of the selection whose files are all there; ``now`` is
    ISO 8601, UTC. Raises StoreError where temporary files can't be written.
    """
    merged = _Merge(prompt_set, selection, own, seen)
    return merged.plan(now)


class _Merge:
    """One merge; use it once."""

    def __init__(self, prompt_set: str, selection: Selection, own: State, seen: Contents) -> None:
        self._set = prompt_set
        self._selection = selection
        self._publication = selection.publication
        self._own = own
        self._seen = seen
        self._scratch = Scratch()
        self._plan = Plan(
            Index(prompt_set, self._scratch), State(self._scratch), has_new_index=False
        )

    def plan(self, now: str) -> Plan:
        """The plan."""
        plan, before = self._plan, self._seen.index
        for entry in self._in_order(self._entries()):
            plan.index.add(entry)
            if (line := self._facts_line(entry.name)) is not None:
                plan.state.pictures[entry.name] = line
        is_same = bool(before.generated_at) and plan.index.has_same_entries(before)
        plan.index.generated_at = before.generated_at if is_same else now
        plan.has_new_index = not is_same or not self._seen.index_tag
        plan.state.indexes = dict(self._seen.state.indexes)
        plan.beside = list(self._beside())
        self._plan_removals()
        return plan

    # The index.

    def _entries(self) -> Iterator[Entry]:
        """Those of the new index, each once.

        As in the prompt set's file, and behind that what else there is; where only some partitions
        were looked at, each picture in the place that it had, and behind that the new ones.
        """
        if self._selection.partitions is None:
            for image in self._selection.images:
                yield from self._chosen_entry(image)
            for name, entry in self._seen.index.entries.pairs():
                if name not in self._chosen_names:
                    yield from self._kept_entry(entry)
            return
        chosen = DiskDict(self._scratch, ChosenImage.encode, ChosenImage.decode)
        chosen.add_all((image.name, image) for image in self._selection.images)
        for name, entry in self._seen.index.entries.pairs():
            now_chosen = chosen.get(name)
            if now_chosen is None:
                yield from self._kept_entry(entry)
            else:
                yield from self._chosen_entry(now_chosen)
        for name, image in chosen.pairs():
            if name not in self._seen.index.entries:
                yield from self._chosen_entry(image)

    def _chosen_entry(self, image: ChosenImage) -> Iterator[Entry]:
        """Its new entry; where it could not be delivered the earlier one, if there is any."""
        facts = self._own.find(image.name)
        if facts is not None:
            yield self._entry(image, facts)
        elif (entry := self._seen.index.entries.get(image.name)) is not None:
            yield from self._kept_entry(entry)

    def _entry(self, image: ChosenImage, facts: PictureFacts) -> Entry:
        files = {file.path: file for file in facts.files}
        return Entry.of(
            {
                "name": image.name,
                "alt": image.alt,
                "prompt": image.prompt,
                "request_sha256": image.request_sha256,
                "source_uri": image.source_uri,
                "made_at": image.made_at,
                "color": facts.color,
                "placeholder": facts.placeholder,
                "files": [
                    {
                        "variant": spec.name,
                        "path": path,
                        "format": spec.format,
                        "width": files[path].width,
                        "height": files[path].height,
                        "bytes": files[path].bytes,
                        "sha256": files[path].sha256,
                    }
                    for spec, path in zip(self._publication.variants, image.paths, strict=True)
                ],
            }
        )

    def _in_order(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """By day the days one after another, each in the order that is given; else as given."""
        if not self._selection.is_by_day:
            return entries
        found, order = self._scratch.lines(), self._scratch.texts()
        for number, entry in enumerate(entries):
            facts = self._facts(entry.name)
            day = facts.partition if facts is not None else ""
            order[f"{day}\n{number:012}"] = entry.name
            found[entry.name] = entry.line
        return (Entry.parse(found[name]) for _, name in order.sorted_pairs())

    def _kept_entry(self, entry: Entry) -> Iterator[Entry]:
        """The entry of a picture that isn't chosen now, if it stays: with the files that exist."""
        is_replaced = any(path in self._delivered_paths for path in entry.paths)
        if is_replaced or not self._stays(entry):
            return
        missing = [path for path in entry.paths if path not in self._seen.files]
        if missing:
            self._plan.problems.append(
                f"{entry.name}: {', '.join(missing)} is gone: publish its partition again"
            )
        if len(missing) < len(entry.paths):
            yield entry.without(missing) if missing else entry

    def _stays(self, entry: Entry) -> bool:
        """Whether a published picture that isn't chosen now stays in the index."""
        if entry.source in self._selection.taken_down:
            self._selection.lost_paths.update(entry.paths)
            return False
        facts, prune = self._seen.state.find(entry.name), self._publication.prune
        if facts is None:  # the state was deleted
            kept = self._kept_prompts
            is_kept = any(each in kept for each in _beginnings(entry.name))
            return is_kept or self._selection.partitions is not None or not prune
        if not self._selection.covers(facts.partition) or facts.place in self._selection.kept:
            return True
        return _place_key(facts.place) not in self._decided and not prune

    @cached_property
    def _kept_prompts(self) -> set[str]:
        return {prompt for _, prompt in self._selection.kept}

    @cached_property
    def _chosen_names(self) -> DiskDict[str]:
        """The names of the pictures of the selection."""
        found = self._scratch.texts()
        found.add_all((image.name, "") for image in self._selection.images)
        return found

    @cached_property
    def _delivered_paths(self) -> DiskDict[str]:
        """The paths of the pictures that are delivered."""
        found = self._scratch.texts()
        found.add_all((path, "") for image in self._delivered() for path in image.paths)
        return found

    @cached_property
    def _decided(self) -> DiskDict[str]:
        """The places of the pictures that are delivered."""
        found = self._scratch.texts()
        found.add_all((_place_key(image.place), "") for image in self._delivered())
        return found

    def _delivered(self) -> Iterator[ChosenImage]:
        return (image for image in self._selection.images if image.name in self._own.pictures)

    # What lies beside it.

    def _beside(self) -> Iterator[Beside]:
        given, index = self._publication, self._plan.index
        yield Beside(f"{given.index}.csv", _CSV, index.csv_body, sha256_of_pieces(index.csv_body()))
        if given.feed is not None:
            newest = nlargest(MOST_ITEMS, self._feed_dates())
            items = [FeedItem(index.entries[name].values(), when) for when, name in newest]
            body = build_feed(given.feed, self._set, items, url=given.url, index=given.index)
            path, kind = feed_path(given.index, given.feed), CONTENT_TYPES[given.feed]
            yield Beside(path, kind, lambda: [body], sha256_of_pieces([body]))

    def _feed_dates(self) -> Iterator[tuple[str, str]]:
        for name, entry in self._plan.index.entries.pairs():
            facts = self._facts(name)
            yield facts.published_at if facts is not None else str(entry.values()["made_at"]), name

    def _facts(self, name: str) -> PictureFacts | None:
        return self._own.find(name) or self._seen.state.find(name)

    # The state.

    def _facts_line(self, name: str) -> bytes | None:
        return self._own.pictures.get(name) or self._seen.state.pictures.get(name)

    def _plan_removals(self) -> None:
        """Note every file that belongs to nothing any more, and which of them are to be removed."""
        plan, seen, lost = self._plan, self._seen, self._selection.lost_paths
        others, named = plan.state.others, plan.index.paths
        others.add_all(
            (path, tag) for path, tag in seen.owned() if path not in named and path in seen.files
        )
        written = {each.path for each in plan.beside}
        gone = (path for path in seen.state.indexes if path not in written)
        others.add_all((path, "") for path in gone if path not in named and path in seen.files)
        changed = []
        for path, tag in others.sorted_pairs():
            if not self._publication.prune and path not in lost:
                plan.left += 1
            elif tag in {"", seen.files[path]}:
                plan.doomed.append(path)
            else:
                changed.append(path)
                plan.left += 1
        for path in changed:
            del others[path]  # it is somebody else's from now on
            plan.problems.append(f"{path}: was changed by others since, and is not removed")


def _place_key(place: tuple[str, str]) -> str:
    """Partition and prompt as one text."""
    return "\n".join(place)


def _beginnings(name: str) -> Iterator[str]:
    """A name, and what stands before each of its hyphens: one of them is its prompt's name."""
    yield name
    yield from (name[:place] for place, char in enumerate(name) if char == "-")
