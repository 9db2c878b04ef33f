"""Merges what is delivered with what lies in a target: the index and the state that it shall have.

Nothing is read or written here but temporary files. Pictures of other partitions, and those that
are no longer chosen and not pruned, stay in the index; the files of the others are to be removed.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import nlargest

from flux_pipeline.publish.contents import Contents, sha256_of_pieces
from flux_pipeline.publish.feed import CONTENT_TYPES, MOST_ITEMS, FeedItem, build_feed, feed_path
from flux_pipeline.publish.index import Entry, Index
from flux_pipeline.publish.scratch import Scratch
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
        self._problems: list[str] = []
        self._index = Index(prompt_set, self._scratch)
        self._named = self._scratch.texts()
        """The paths that the new index names."""
        self._chosen = self._scratch.lines()
        """The lines of the pictures that are delivered, by name, in the order of the file."""
        self._chosen_paths = self._scratch.texts()
        self._decided = self._scratch.texts()
        """The places of those pictures."""
        self._kept_names = {prompt for _, prompt in selection.kept}

    def plan(self, now: str) -> Plan:
        """The plan."""
        self._add_chosen()
        self._add_entries()
        before = self._seen.index
        is_same = self._index.has_same_entries(before) and bool(before.generated_at)
        self._index.generated_at = before.generated_at if is_same else now
        plan = Plan(
            self._index,
            State(self._scratch),
            has_new_index=not is_same or not self._seen.index_tag,
            beside=list(self._beside()),
        )
        plan.state.indexes = dict(self._seen.state.indexes)
        plan.state.pictures.add_all(self._facts_lines())
        self._plan_removals(plan)
        plan.problems = self._problems
        return plan

    # The index.

    def _add_chosen(self) -> None:
        """Make the entries of the pictures that are delivered."""
        for image in self._selection.images:
            facts = self._own.find(image.name)
            if facts is not None:
                entry = self._entry(image, facts)
                self._chosen[image.name] = entry.line
                self._chosen_paths.add_all((path, "") for path in entry.paths)
                self._decided[_place_key(image.place)] = ""

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

    def _add_entries(self) -> None:
        """Fill the index, in order: by day the days', each as the file has its prompts.

        Where only some partitions were looked at, each picture keeps its place.
        """
        if not self._selection.is_by_day:
            self._index.entries.add_all((each.name, each) for each in self._entries())
            return
        entries, order = self._scratch.lines(), self._scratch.texts()
        for number, entry in enumerate(self._entries()):
            entries[entry.name] = entry.line
            order[f"{self._day(entry.name)}\n{number:012}"] = entry.name
        names = (name for _, name in order.sorted_pairs())
        self._index.entries.add_all((name, Entry.parse(entries[name])) for name in names)

    def _day(self, name: str) -> str:
        facts = self._facts(name)
        return facts.partition if facts is not None else ""

    def _entries(self) -> Iterator[Entry]:
        """Those of the new index, in order."""
        for name in self._names():
            line = self._chosen.get(name)
            if line is not None:
                yield Entry.parse(line)
                continue
            entry = self._seen.index.entries.get(name)
            if entry is not None and not any(path in self._chosen_paths for path in entry.paths):
                yield from self._kept_entry(entry)

    def _names(self) -> Iterable[str]:
        """Every name of the selection and of the index that lies there, once, in order."""
        names, before = self._scratch.texts(), self._seen.index.entries
        if self._selection.partitions is not None:
            names.add_all((name, "") for name in before)
        names.add_all((image.name, "") for image in self._selection.images)
        names.add_all((name, "") for name in before)
        return names

    def _kept_entry(self, entry: Entry) -> Iterator[Entry]:
        """The entry of a picture that isn't chosen now, if it stays: with the files that exist."""
        if not self._stays(entry):
            return
        missing = [path for path in entry.paths if path not in self._seen.files]
        if missing:
            self._problems.append(
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
            is_kept = any(each in self._kept_names for each in _beginnings(entry.name))
            return is_kept or self._selection.partitions is not None or not prune
        if not self._selection.covers(facts.partition) or facts.place in self._selection.kept:
            return True
        return _place_key(facts.place) not in self._decided and not prune

    # What lies beside it.

    def _beside(self) -> Iterator[Beside]:
        table = f"{self._publication.index}.csv"
        sha256 = sha256_of_pieces(self._index.csv_body())
        yield Beside(table, _CSV, self._index.csv_body, sha256)
        kind = self._publication.feed
        if kind is not None:
            newest = nlargest(MOST_ITEMS, self._feed_dates())
            items = [FeedItem(self._index.entries[name].values(), when) for when, name in newest]
            feed = [build_feed(kind, self._set, items, url=self._publication.url)]
            path = feed_path(self._publication.index, kind)
            yield Beside(path, CONTENT_TYPES[kind], lambda: feed, sha256_of_pieces(feed))

    def _feed_dates(self) -> Iterator[tuple[str, str]]:
        for name, entry in self._index.entries.pairs():
            facts = self._facts(name)
            yield facts.published_at if facts is not None else str(entry.values()["made_at"]), name

    def _facts(self, name: str) -> PictureFacts | None:
        return self._own.find(name) or self._seen.state.find(name)

    # The state.

    def _facts_lines(self) -> Iterator[tuple[str, bytes]]:
        own, theirs = self._own.pictures, self._seen.state.pictures
        for name, entry in self._index.entries.pairs():
            self._named.add_all((path, "") for path in entry.paths)
            line = own.get(name) or theirs.get(name)
            if line is not None:
                yield name, line

    def _plan_removals(self, plan: Plan) -> None:
        """Note every file that belongs to nothing any more, and which of them are to be removed."""
        seen, others = self._seen, plan.state.others
        written = {each.path for each in plan.beside}
        others.add_all(
            (path, tag)
            for path, tag in seen.owned.pairs()
            if path not in self._named and path in seen.files
        )
        others.add_all(
            (path, "")
            for path in seen.state.indexes
            if path not in written and path not in self._named and path in seen.files
        )
        lost = self._selection.lost_paths
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
            self._problems.append(f"{path}: was changed by others since, and is not removed")


def _place_key(place: tuple[str, str]) -> str:
    """Partition and prompt as one text."""
    return "\n".join(place)


def _beginnings(name: str) -> Iterator[str]:
    """A name, and what stands before each of its hyphens: one of them is its prompt's name."""
    yield name
    yield from (name[:place] for place, char in enumerate(name) if char == "-")
