"""Delivers chosen pictures to a target: what changed is written, the index last.

A reader of the index never finds a file missing, whenever a publisher is killed and however many
publish at once. The order makes that so:

1. The paths that are about to be written are noted in the state, so that files which a killed
   publisher leaves are known to be ours.
2. Files are rendered and written, each at once and whole. The index that is there stays true: what
   it names is replaced and not removed.
3. Under the target's lock the index is read again, every file that the new one names is looked for
   and written once more where it is gone, and the new index replaces the one that was read. What
   other publishers delivered meanwhile is in it.
4. Under the same lock, and only now, files that it doesn't name are removed.

What is unchanged costs a look: a file whose source and spec are those of the state, and whose tag
is the one that was written, is neither fetched nor decoded.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from flux_pipeline.errors import ImageError, SigningError, StoreError
from flux_pipeline.iteration import map_ahead
from flux_pipeline.publish.feed import CONTENT_TYPES, MOST_ITEMS, FeedItem, build_feed, feed_path
from flux_pipeline.publish.index import Entry, Index, read_index
from flux_pipeline.publish.rendering import Rendered, Renderer
from flux_pipeline.publish.selection import ChosenImage, Selection, index_paths, utc
from flux_pipeline.publish.state import FileFacts, PictureFacts, State, read_state, state_path
from flux_pipeline.store.target import Kind, Target

_CHECKPOINT = 500
"""Pictures that are rendered between two notes of what is done, for the case of a kill."""
_JSON, _CSV = "application/json", "text/csv; charset=utf-8"


@dataclass(slots=True)
class Delivered:
    """What one delivery has done, or with a dry run would do."""

    images: int = 0
    """Chosen pictures whose files are all there."""
    files: int = 0
    """Of those pictures."""
    written: int = 0
    """Files that were written because they are new, changed or were gone."""
    unchanged: int = 0
    removed: int = 0
    """Published files that were removed."""
    left: int = 0
    """Published files that are no longer chosen and stay, because ``prune`` is not on."""
    problems: list[str] = field(default_factory=list)
    """A sentence for each picture or file that could not be dealt with."""
    failed: dict[str, str] = field(default_factory=dict)
    """Chosen pictures that could not be delivered, by name, and why."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A target at one moment."""

    index: Index
    index_tag: str
    """Empty where there is no index."""
    state: State
    state_body: bytes
    files: dict[str, str]
    """The tags of the files that matter, by path."""

    def owned(self) -> dict[str, str]:
        """Every path that we have written, with the tag that it had then, or an empty one."""
        of_index = {path: "" for entry in self.index.entries.values() for path in entry.paths}
        return of_index | self.state.owned()


@dataclass(frozen=True, slots=True)
class _Task:
    """One picture, of which some variants have to be made."""

    image: ChosenImage
    variants: tuple[int, ...]
    """Their numbers in ``publish.variants``."""
    before: PictureFacts | None
    """What is known of the files that stay."""


class Delivery:
    """One delivery of one selection to one target. Use it once."""

    def __init__(
        self,
        prompt_set: str,
        selection: Selection,
        target: Target,
        renderer: Renderer,
        *,
        now: Callable[[], datetime],
        threads: int = 4,
        on_progress: Callable[[int, int], None] | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> None:
        self.delivered = Delivered()
        self._set = prompt_set
        self._selection = selection
        self._publication = selection.publication
        self._target = target
        self._renderer = renderer
        self._now = now
        self._threads = threads
        self._on_progress = on_progress
        self._on_wait = on_wait
        self._index_path = f"{self._publication.index}.json"
        self._state_path = state_path(self._publication.index)
        self._own = State()
        """The pictures of this selection whose files are all there."""
        self._lost = set(selection.lost_paths)
        """Paths of pictures that were taken down, which go whatever ``prune`` says."""

    def run(self, *, dry_run: bool = False) -> Delivered:
        """Deliver. Raises StoreError where the target can't be read or written."""
        seen = self._look()
        tasks = self._tasks(seen)
        if dry_run:
            return self._forecast(seen, tasks)
        if tasks or self._is_changed(seen):
            self._target.check()
            self._make_all(self._claim(tasks))
            self._commit()
        else:
            self._count(self._plan(seen))
        return self.delivered

    # What there is, and what has to be made.

    def _look(self) -> _Seen:
        found = self._target.read(self._index_path)
        body, tag = found or (None, "")
        index = read_index(f"{self._target.uri}/{self._index_path}", body, self._set)
        read = self._target.read(self._state_path)
        state_body = read[0] if read else b""
        seen = _Seen(index, tag, read_state(state_body), state_body, {})
        pictures = {path for image in self._selection.images for path in image.paths}
        pictures |= seen.owned().keys()
        beside = {*index_paths(self._publication), *seen.state.indexes}
        for prefix in (_common_beginning(pictures), *sorted(beside)) if pictures else beside:
            for file in self._target.find(prefix):
                if file.path in pictures or file.path in beside:
                    seen.files[file.path] = file.tag
        return seen

    def _tasks(self, seen: _Seen) -> list[_Task]:
        """The pictures of which files have to be made; the others are noted as they are."""
        tasks = []
        for image in self._selection.images:
            facts = seen.state.find(image.name)
            if facts is not None and facts.source_sha256 != image.file_sha256:
                facts = None
            good = self._good_files(image, facts, seen)
            missing = tuple(number for number, file in enumerate(good) if file is None)
            if facts is not None and not missing:
                self._note(image, facts, [file for file in good if file is not None])
            else:
                tasks.append(_Task(image, missing, facts))
        return tasks

    def _good_files(
        self, image: ChosenImage, facts: PictureFacts | None, seen: _Seen
    ) -> list[FileFacts | None]:
        """For each variant the file as it lies there; None where it has to be made."""
        known = {file.path: file for file in facts.files} if facts is not None else {}
        good = []
        for path, key in zip(image.paths, self._renderer.keys, strict=True):
            file = known.get(path)
            is_good = file is not None and file.made_by == key and seen.files.get(path) == file.tag
            good.append(file if is_good else None)
        return good

    def _note(
        self,
        image: ChosenImage,
        facts: PictureFacts,
        files: Iterable[FileFacts],
    ) -> None:
        noted = replace(
            facts,
            partition=image.partition,
            prompt_name=image.prompt_name,
            take=image.take,
            output_index=image.output_index,
            files=tuple(files),
        )
        self._own.put(image.name, noted)

    # Files.

    def _claim(self, tasks: Sequence[_Task]) -> list[_Task]:
        """Note the paths that are about to be written; leave out pictures whose place is taken."""
        if not tasks:
            return []
        with self._target.exclusive(self._on_wait) as keep:
            seen = self._look()
            owned = seen.owned()
            claimed = []
            for task in tasks:
                paths = [task.image.paths[number] for number in task.variants]
                foreign = [path for path in paths if path in seen.files and path not in owned]
                if foreign:
                    self._fail(
                        task.image,
                        f"{', '.join(foreign)}: lies in {self._target.uri} and was not published by"
                        f" {self._set}: move it away, or give publish.name another form",
                    )
                    continue
                claimed.append(task)
                seen.state.others |= {path: "" for path in paths if path not in owned}
            keep()
            self._put_state(seen.state, seen.state_body)
        return claimed

    def _make_all(self, tasks: Sequence[_Task]) -> None:
        waiting = 0
        total, unchanged = len(self._selection.images), len(self._own.pictures)
        for done, task in enumerate(map_ahead(self._make, tasks, threads=self._threads), 1):
            self._take(*task)
            waiting += 1
            if waiting == _CHECKPOINT and done < len(tasks):
                waiting = 0
                self._checkpoint()
            if self._on_progress is not None:
                self._on_progress(unchanged + done, total)

    def _make(self, task: _Task) -> tuple[_Task, Rendered | str, list[FileFacts]]:
        """Render the variants of a task and write them; with what is wrong where they can't be."""
        image = task.image
        try:
            rendered = self._renderer.render(image, task.variants)
        except (ImageError, SigningError, StoreError) as error:
            return task, str(error), []
        files = []
        for number, variant in zip(task.variants, rendered.variants, strict=True):
            path = image.paths[number]
            tag = self._target.put(path, variant.data, content_type=variant.spec.content_type)
            files.append(
                FileFacts(
                    path=path,
                    made_by=self._renderer.keys[number],
                    tag=tag,
                    sha256=variant.sha256,
                    bytes=len(variant.data),
                    width=variant.width,
                    height=variant.height,
                )
            )
        return task, rendered.without_data(), files

    def _take(self, task: _Task, rendered: Rendered | str, files: Sequence[FileFacts]) -> None:
        """Note what came of one task."""
        image = task.image
        if isinstance(rendered, str):
            self._fail(image, rendered)
            return
        self.delivered.written += len(files)
        made = {file.path: file for file in files}
        stays = {file.path: file for file in task.before.files} if task.before else {}
        facts = PictureFacts(
            partition=image.partition,
            prompt_name=image.prompt_name,
            take=image.take,
            output_index=image.output_index,
            source_sha256=image.file_sha256,
            published_at=task.before.published_at if task.before else utc(self._now()),
            color=rendered.color,
            placeholder=rendered.placeholder,
            files=(),
        )
        self._note(image, facts, [made.get(path) or stays[path] for path in image.paths])

    def _fail(self, image: ChosenImage, problem: str) -> None:
        self.delivered.failed[image.name] = problem
        self._selection.kept.add(image.place)
        self.delivered.problems.append(f"{image.name}: {problem}")

    def _checkpoint(self) -> None:
        """Note what is done, so that the next publisher need not do it again."""
        with self._target.exclusive(self._on_wait) as keep:
            read = self._target.read(self._state_path)
            body = read[0] if read else b""
            state = read_state(body)
            for name in self._own.pictures:
                if (facts := self._own.find(name)) is not None:
                    state.put(name, facts)
            keep()
            self._put_state(state, body)

    # The index.

    def _is_changed(self, seen: _Seen) -> bool:
        """Whether anything but pictures' files has to be written or removed."""
        plan = self._plan(seen)
        return (
            plan.index.entries.keys() != seen.index.entries.keys()
            or plan.index.body() != seen.index.body()
            or bool(plan.doomed)
            or any(self._is_other(seen, *each) for each in plan.bodies)
            or plan.state.body() != seen.state_body
            or not seen.index_tag
        )

    def _commit(self) -> None:
        """Write the new index, and remove what it names no more."""
        with self._target.exclusive(self._on_wait) as keep:
            seen = self._look()
            self._repair(seen, keep)
            plan = self._plan(seen)
            # Before the index, so that what it names is known to be ours whatever happens next.
            body = self._put_state(plan.state, seen.state_body)
            for path, content, content_type in plan.bodies:
                if self._is_other(seen, path, content, content_type):
                    keep()
                    tag = self._put(path, content, content_type, "index")
                    plan.state.indexes[path] = _index_fact(tag, content)
            if not seen.index_tag or plan.index.body() != seen.index.body():
                keep()
                self._target.put(
                    self._index_path,
                    plan.index.body(),
                    content_type=_JSON,
                    kind="index",
                    replacing=seen.index_tag,
                )
            for path in plan.doomed:
                keep()
                self._target.delete(path)
                plan.state.others.pop(path, None)
                plan.state.indexes.pop(path, None)
            keep()
            self._put_state(plan.state, body)
        self._count(plan)

    def _repair(self, seen: _Seen, keep: Callable[[], None]) -> None:
        """Make files again that are gone, or are others, since they were written.

        Where another publisher has made the very same meanwhile, its files are taken over.
        """
        for image in self._selection.images:
            facts = self._own.find(image.name)
            if facts is None:
                continue
            good = self._good_files(image, facts, seen)
            theirs = seen.state.find(image.name) if None in good else None
            if theirs is not None and theirs.source_sha256 == image.file_sha256:
                others = [
                    file for file in self._good_files(image, theirs, seen) if file is not None
                ]
                if len(others) == len(good):
                    self._note(image, theirs, others)
                    continue
            missing = tuple(number for number, file in enumerate(good) if file is None)
            if missing:
                keep()
                task = self._make(_Task(image, missing, facts))
                self._own.drop(image.name)
                self._take(*task)
                for file in task[2]:
                    seen.files[file.path] = file.tag

    def _plan(self, seen: _Seen) -> "_Plan":
        """What the index, the files beside it and the state shall be."""
        entries = self._in_order(seen, self._entries(seen))
        lines = {name: entry.line for name, entry in entries.items()}
        is_same = list(lines.items()) == [
            (name, entry.line) for name, entry in seen.index.entries.items()
        ]
        generated_at = seen.index.generated_at if is_same else ""
        index = Index(self._set, generated_at or utc(self._now()), entries)
        named = {path for entry in entries.values() for path in entry.paths}
        bodies = self._bodies(index, seen)
        state = State(indexes=dict(seen.state.indexes))
        for name in entries:
            line = self._own.pictures.get(name) or seen.state.pictures.get(name)
            if line is not None:
                state.pictures[name] = line
        written = {path for path, _, _ in bodies}
        gone = {path: tag for path, tag in seen.owned().items() if path not in named}
        gone |= {path: "" for path in seen.state.indexes if path not in written}
        gone = {path: tag for path, tag in gone.items() if path in seen.files}
        state.others = dict(gone)
        removable = {
            path for path, tag in gone.items() if self._publication.prune or path in self._lost
        }
        changed = {path for path in removable if gone[path] not in {"", seen.files[path]}}
        for path in sorted(changed):
            del state.others[path]  # it is somebody else's from now on
            self._add_problem(f"{path}: was changed by others since, and is not removed")
        doomed = sorted(removable - changed)
        return _Plan(index, state, bodies, doomed, len(gone) - len(doomed), named)

    def _entries(self, seen: _Seen) -> dict[str, Entry]:
        """The entries of the new index, in no order."""
        entries = {}
        decided = set()
        for image in self._selection.images:
            facts = self._own.find(image.name)
            if facts is not None:
                entries[image.name] = self._entry(image, facts)
                decided.add(image.place)
        ours = {path for entry in entries.values() for path in entry.paths}
        for name, entry in seen.index.entries.items():
            if name in entries or not ours.isdisjoint(entry.paths):
                continue
            if not self._stays(name, entry, seen, decided):
                continue
            missing = [path for path in entry.paths if path not in seen.files]
            if missing:
                self._add_problem(
                    f"{name}: {', '.join(missing)} is gone: publish its partition again"
                )
            if len(missing) < len(entry.paths):
                entries[name] = entry.without(missing) if missing else entry
        return entries

    def _add_problem(self, problem: str) -> None:
        if problem not in self.delivered.problems:
            self.delivered.problems.append(problem)

    def _stays(
        self, name: str, entry: Entry, seen: _Seen, decided: Collection[tuple[str, str]]
    ) -> bool:
        """Whether a published picture that isn't chosen now stays in the index."""
        facts = seen.state.find(name)
        if entry.source in self._selection.taken_down:
            self._lost |= set(entry.paths)
            return False
        if facts is None:  # the state was deleted
            begins = {prompt for _, prompt in self._selection.kept}
            is_kept = any(name == each or name.startswith(f"{each}-") for each in begins)
            return is_kept or self._selection.partitions is not None or not self._publication.prune
        if not self._selection.covers(facts.partition) or facts.place in self._selection.kept:
            return True
        return facts.place not in decided and not self._publication.prune

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

    def _in_order(self, seen: _Seen, entries: dict[str, Entry]) -> dict[str, Entry]:
        """As in the file where all was looked at; else each in its place, and days in order."""
        chosen = [image.name for image in self._selection.images]
        before = list(seen.index.entries)
        names = [*chosen, *before] if self._selection.partitions is None else [*before, *chosen]
        ordered = [name for name in dict.fromkeys(names) if name in entries]
        if self._selection.is_by_day:
            ordered.sort(key=lambda name: self._day(name, seen))  # stable
        return {name: entries[name] for name in ordered}

    def _day(self, name: str, seen: _Seen) -> str:
        facts = self._own.find(name) or seen.state.find(name)
        return facts.partition if facts is not None else ""

    def _bodies(self, index: Index, seen: _Seen) -> list[tuple[str, bytes, str]]:
        """Path, bytes and type of what lies beside ``index.json``."""
        bodies = [(f"{self._publication.index}.csv", index.csv_body(), _CSV)]
        kind = self._publication.feed
        if kind is not None:
            newest = sorted(self._feed_dates(index, seen), reverse=True)[:MOST_ITEMS]
            items = [FeedItem(index.entries[name].values(), when) for when, name in newest]
            feed = build_feed(kind, self._set, items, url=self._publication.url)
            bodies.append((feed_path(self._publication.index, kind), feed, CONTENT_TYPES[kind]))
        return bodies

    def _feed_dates(self, index: Index, seen: _Seen) -> Iterator[tuple[str, str]]:
        for name, entry in index.entries.items():
            facts = self._own.find(name) or seen.state.find(name)
            yield facts.published_at if facts is not None else str(entry.values()["made_at"]), name

    def _is_other(self, seen: _Seen, path: str, content: bytes, _type: str) -> bool:
        """Whether other bytes lie under the path of an index, or none."""
        return seen.state.indexes.get(path) != _index_fact(seen.files.get(path, ""), content)

    def _put_state(self, state: State, before: bytes) -> bytes:
        body = state.body()
        if body != before:
            self._put(self._state_path, body, _JSON, "private")
        return body

    def _put(self, path: str, body: bytes, content_type: str, kind: Kind) -> str:
        return self._target.put(path, body, content_type=content_type, kind=kind)

    # What is said.

    def _forecast(self, seen: _Seen, tasks: Sequence[_Task]) -> Delivered:
        """What a delivery would do, with every picture that has to be made taken for good."""
        self.delivered.written = sum(len(task.variants) for task in tasks)
        owned = seen.owned()
        for task in tasks:
            foreign = [
                path for path in task.image.paths if path in seen.files and path not in owned
            ]
            if foreign:
                self._fail(task.image, f"{', '.join(foreign)}: was not published by {self._set}")
                self.delivered.written -= len(task.variants)
                continue
            blank = FileFacts(path="", made_by="", tag="", sha256="", bytes=0, width=0, height=0)
            facts = PictureFacts(
                partition="",
                prompt_name="",
                take=0,
                output_index=0,
                source_sha256="",
                published_at=utc(self._now()),
                color="",
                placeholder="",
                files=(),
            )
            self._note(task.image, facts, [replace(blank, path=path) for path in task.image.paths])
        self._count(self._plan(seen))
        return self.delivered

    def _count(self, plan: "_Plan") -> None:
        found = self.delivered
        found.images = len(self._own.pictures)
        found.files = found.images * len(self._publication.variants)
        found.unchanged = max(found.files - found.written, 0)
        found.removed = len(plan.doomed)
        found.left = plan.left


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a target shall be."""

    index: Index
    state: State
    bodies: list[tuple[str, bytes, str]]
    doomed: list[str]
    """Paths to be removed."""
    left: int
    """Files that belong to no picture and stay."""
    named: set[str]


def _common_beginning(paths: Collection[str]) -> str:
    """The longest text that all paths begin with, in whichever part of them it ends."""
    first, last = min(paths), max(paths)
    same = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    return first if same is None else first[:same]


def _index_fact(tag: str, body: bytes) -> str:
    return f"{tag} {hashlib.sha256(body).hexdigest()}"
