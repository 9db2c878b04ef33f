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

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self

from flux_pipeline.errors import ImageError, SigningError, StoreError
from flux_pipeline.iteration import map_ahead
from flux_pipeline.publish.contents import Contents, index_fact, read_contents
from flux_pipeline.publish.merge import Plan, merge
from flux_pipeline.publish.renderer import Rendered, Renderer
from flux_pipeline.publish.scratch import DiskList, Scratch, spooled
from flux_pipeline.publish.selection import ChosenImage, Selection, utc
from flux_pipeline.publish.state import FileFacts, PictureFacts, State, read_state, state_path
from flux_pipeline.store.base import sha256_of
from flux_pipeline.store.target import Target

_CHECKPOINT = 500
"""Pictures that are rendered between two notes of what is done, for the case of a kill."""
_JSON = "application/json"
_BLANK = FileFacts(path="", made_by="", tag="", sha256="", bytes=0, width=0, height=0)


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
class _Task:
    """One picture, of which some variants have to be made."""

    image: ChosenImage
    variants: tuple[int, ...]
    """Their numbers in ``publish.variants``."""
    before: PictureFacts | None
    """What is known of the files that stay."""

    def encode(self) -> str:
        """All of it as JSON, for ``decode``."""
        before = None if self.before is None else self.before.line().decode()
        return json.dumps([self.image.encode(), self.variants, before])

    @classmethod
    def decode(cls, text: str) -> Self:
        """What ``encode`` was given."""
        image, variants, before = json.loads(text)
        facts = None if before is None else PictureFacts.parse(json.loads(before))
        return cls(ChosenImage.decode(image), tuple(variants), facts)


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
        self._keys = renderer.keys
        self._now = now
        self._threads = threads
        self._on_progress = on_progress
        self._on_wait = on_wait
        self._index_path = f"{self._publication.index}.json"
        self._state_path = state_path(self._publication.index)
        self._scratch = Scratch()
        self._own = State(self._scratch)
        """The pictures of this selection whose files are all there."""

    def run(self, *, dry_run: bool = False) -> Delivered:
        """Deliver. Raises StoreError where the target can't be read or written."""
        seen = self._look()
        tasks = self._tasks(seen)
        if dry_run:
            self._forecast(seen, tasks)
        elif len(tasks):
            self._target.check()
            self._claim(tasks)
            self._make_all(tasks)
            self._commit()
        else:
            plan = self._merge(seen)
            if plan.is_change(seen):
                self._target.check()
                self._commit()
            else:
                self._count(plan)
        return self.delivered

    # What there is, and what has to be made.

    def _look(self) -> Contents:
        return read_contents(self._target, self._set, self._selection)

    def _merge(self, seen: Contents) -> Plan:
        plan = merge(self._set, self._selection, self._own, seen, now=utc(self._now()))
        known = self.delivered.problems
        known.extend(problem for problem in plan.problems if problem not in known)
        return plan

    def _tasks(self, seen: Contents) -> DiskList[_Task]:
        """The pictures of which files have to be made; the others are noted as they are."""
        tasks = DiskList(self._scratch, _Task.encode, _Task.decode)
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
        self, image: ChosenImage, facts: PictureFacts | None, seen: Contents
    ) -> list[FileFacts | None]:
        """For each variant the file as it lies there; None where it has to be made."""
        known = {file.path: file for file in facts.files} if facts is not None else {}
        good = []
        for path, key in zip(image.paths, self._keys, strict=True):
            file = known.get(path)
            is_good = file is not None and file.made_by == key and seen.files.get(path) == file.tag
            good.append(file if is_good else None)
        return good

    def _note(self, image: ChosenImage, facts: PictureFacts, files: Iterable[FileFacts]) -> None:
        """Note that all files of a picture are there."""
        noted = replace(
            facts,
            partition=image.partition,
            prompt_name=image.prompt_name,
            take=image.take,
            output_index=image.output_index,
            files=tuple(files),
        )
        self._own.add(image.name, noted)

    # Files.

    def _claim(self, tasks: Iterable[_Task]) -> None:
        """Note the paths that are about to be written; fail pictures whose place is taken."""
        with self._target.exclusive(self._on_wait) as keep:
            seen = self._look()
            for task in tasks:
                paths = [task.image.paths[number] for number in task.variants]
                if self._is_free(task, paths, seen):
                    new = [path for path in paths if not seen.owns(path)]
                    seen.state.others.add_all((path, "") for path in new)
            self._put_state(seen.state, seen.state_sha256, keep)

    def _is_free(self, task: _Task, paths: Iterable[str], seen: Contents) -> bool:
        """Whether no file of others lies under these paths; else the picture has failed."""
        foreign = [path for path in paths if path in seen.files and not seen.owns(path)]
        if foreign:
            self._fail(
                task.image,
                f"{', '.join(foreign)}: lies in {self._target.uri} and was not published by"
                f" {self._set}: move it away, or give publish.name another form",
            )
        return not foreign

    def _make_all(self, tasks: DiskList[_Task]) -> None:
        """Make the files of every task that hasn't failed."""
        failed = self.delivered.failed
        left, total = len(tasks) - len(failed), len(self._selection.images)
        claimed = (task for task in tasks if task.image.name not in failed)
        unchanged = len(self._own.pictures)
        for done, task in enumerate(map_ahead(self._make, claimed, threads=self._threads), 1):
            self._take(*task)
            if done % _CHECKPOINT == 0 and done < left:
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
                    made_by=self._keys[number],
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
        with self._target.exclusive(self._on_wait) as keep, spooled() as file:
            has_state = self._target.fetch(self._state_path, file) is not None
            state = read_state(file, Scratch())
            state.put_all(self._own)
            self._put_state(state, sha256_of(file) if has_state else "", keep)

    # The index.

    def _commit(self) -> None:
        """Write the new index, and remove what it names no more."""
        with self._target.exclusive(self._on_wait) as keep:
            seen = self._look()
            self._repair(seen, keep)
            plan = self._merge(seen)
            # Before the index, so that what it names is known to be ours whatever happens next.
            noted = self._put_state(plan.state, seen.state_sha256, keep)
            for each in plan.beside:
                if not seen.has_index(each.path, each.sha256):
                    tag = self._put_index(each.path, each.pieces(), each.content_type, keep)
                    plan.state.indexes[each.path] = index_fact(tag, each.sha256)
            if plan.has_new_index:
                body, tag = plan.index.body(), seen.index_tag
                self._put_index(self._index_path, body, _JSON, keep, replacing=tag)
            for path in plan.doomed:
                keep()
                self._target.delete(path)
                plan.state.others.pop(path, None)
                plan.state.indexes.pop(path, None)
            self._put_state(plan.state, noted, keep)
        self._count(plan)

    def _repair(self, seen: Contents, keep: Callable[[], None]) -> None:
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
                self._own.pictures.pop(image.name)
                self._take(*task)
                seen.files.add_all((file.path, file.tag) for file in task[2])

    def _put_index(
        self,
        path: str,
        pieces: Iterable[bytes],
        content_type: str,
        keep: Callable[[], None],
        *,
        replacing: str | None = None,
    ) -> str:
        with spooled(pieces) as file:
            keep()
            return self._target.put(
                path, file, content_type=content_type, kind="index", replacing=replacing
            )

    def _put_state(self, state: State, before: str, keep: Callable[[], None]) -> str:
        """Write the state if its file is another one; ``before`` and returned is its SHA-256."""
        with spooled(state.body()) as file:
            sha256 = sha256_of(file)
            if sha256 != before:
                keep()
                self._target.put(self._state_path, file, content_type=_JSON, kind="private")
        return sha256

    # What is said.

    def _forecast(self, seen: Contents, tasks: DiskList[_Task]) -> None:
        """Count what a delivery would do, as if every picture could be made that has to be."""
        for task in tasks:
            if not self._is_free(task, task.image.paths, seen):
                continue
            self.delivered.written += len(task.variants)
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
            self._note(task.image, facts, [replace(_BLANK, path=path) for path in task.image.paths])
        self._count(self._merge(seen))

    def _count(self, plan: Plan) -> None:
        found = self.delivered
        found.images = len(self._own.pictures)
        found.files = found.images * len(self._publication.variants)
        found.unchanged = max(found.files - found.written, 0)
        found.removed = len(plan.doomed)
        found.left = plan.left
