"""Publishes the chosen pictures of a prompt set, and takes published ones down again."""

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from flux_pipeline.errors import ConfigError, ImageError, Problem
from flux_pipeline.image_reader import Current, begun_partitions
from flux_pipeline.images.signing import ManifestSigner
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.prompts import PromptSet
from flux_pipeline.prompts.picks import Pick
from flux_pipeline.prompts.publication import Publication
from flux_pipeline.publish.delivery import Delivered, Delivery
from flux_pipeline.publish.index import Entry, fetch_index
from flux_pipeline.publish.renderer import Renderer
from flux_pipeline.publish.scratch import Scratch, spooled
from flux_pipeline.publish.selection import Selection, publication_of, select_images, utc
from flux_pipeline.publish.state import read_state, state_path
from flux_pipeline.publish.taken_down import (
    ALLOWED,
    TAKEN_DOWN,
    Event,
    TakenDown,
    find_taken_down,
    note,
)
from flux_pipeline.store.base import Store
from flux_pipeline.store.open import open_target
from flux_pipeline.store.target import Target, TargetOptions
from flux_pipeline.store_options import NO_OPTIONS, StoreOptions
from flux_pipeline.text import count_noun

DEFAULT_FOLDER = "published"
"""Where in the store a set is published that says no ``to``: ``published/<set>``."""
THREADS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishReport:
    """What was published of one set, or with a dry run would be."""

    prompt_set: str
    uri: str
    """Of the target: ``file:///folder`` or ``s3://bucket/prefix``."""
    index_uri: str
    images: int
    """Chosen pictures whose files are all there, of the partitions that were asked for."""
    files: int
    """Of those pictures."""
    written: int
    unchanged: int
    removed: int
    left: int = 0
    """Published files that are no longer chosen and stay, because ``prune`` is not on."""
    taken_down: int = 0
    """Pictures that are not published because somebody took them down."""
    undecided: tuple[str, ...] = ()
    """Prompts of which nothing is chosen; by day ``day/name``."""
    problems: tuple[str, ...] = ()
    """What is chosen and not delivered, a sentence each."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Chosen pictures that could not be delivered, by their name in the index, and why."""
    pick_problems: tuple[str, ...] = ()
    """Those of ``problems`` that the file of picks has."""
    is_dry: bool = False

    def counts(self) -> dict[str, int]:
        """``{images, files, written, unchanged, removed, undecided}``."""
        names = ("images", "files", "written", "unchanged", "removed")
        return {name: getattr(self, name) for name in names} | {"undecided": len(self.undecided)}

    def line(self) -> str:
        """``12 images, 36 files: 3 written, 33 unchanged; 2 undecided``."""
        would = "would be " if self.is_dry else ""
        counts = [f"{self.written} {would}written", f"{self.unchanged} unchanged"]
        if self.removed:
            counts.append(f"{self.removed} {would}removed")
        what = f"{count_noun(self.images, 'image')}, {count_noun(self.files, 'file')}"
        found = [
            f"{what}: {', '.join(counts)}",
            f"{self.left} no longer chosen (prune: true removes them)" if self.left else "",
            f"{self.taken_down} taken down" if self.taken_down else "",
            f"{len(self.undecided)} undecided" if self.undecided else "",
            count_noun(len(self.problems), "problem") if self.problems else "",
        ]
        return "; ".join(filter(None, found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Publishing:
    """What a publisher works with, beside the prompt set."""

    store: Store
    """Where the pictures lie."""
    ledger: str
    """The ledger's URL."""
    store_options: StoreOptions = NO_OPTIONS
    signer: ManifestSigner | None = None
    """Signs every file as an edit of its picture, where C2PA is configured."""
    embed_prompt: bool = True
    """Whether prompts are published, in the index and as alt texts where the set has none."""
    threads: int = THREADS
    """Pictures that are fetched, rendered and written at once; each takes a decoded picture's
    memory, of large ones one at a time."""
    now: Callable[[], datetime] = field(default=partial(datetime.now, UTC))

    def target(self, prompt_set: PromptSet, publication: Publication) -> Target:
        """Where a set is published. Raises StoreError."""
        options = TargetOptions(
            cache_control=publication.cache_control or "",
            acl=publication.acl or "",
            storage_class=publication.storage_class or "",
        )
        return open_target(
            publication.to,
            options,
            store_uri=self.store.uri,
            store_options=self.store_options,
            default=f"{DEFAULT_FOLDER}/{prompt_set.name}",
            concurrency=2 * self.threads,
        )

    def index_uri(self, prompt_set: PromptSet, publication: Publication) -> str:
        """Where the index of a set lies, or will lie. Raises StoreError."""
        return f"{self.target(prompt_set, publication).uri}/{publication.index}.json"


def publish_set(
    prompt_set: PromptSet,
    partitions: Collection[str] | None = None,
    *,
    publishing: Publishing,
    dry_run: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    on_wait: Callable[[], None] | None = None,
) -> PublishReport:
    """Publish the chosen pictures of these partitions, or of all that have begun.

    What was published of other partitions stays. A picture that can't be read or rendered is a
    problem of the report, and keeps its earlier files; the others are delivered. ``on_progress`` is
    called with the numbers of pictures that are done and of all; ``on_wait`` where another
    publisher is at work on the same target. With ``dry_run`` nothing is written.

    Raises:
        ConfigError: The set has no ``publish``; two files would have one path, or one that is none;
            picks can't be read; a format can't be written on this machine. Nothing was written.
        StoreError: Store or target can't be used. The index there is still true.
        LedgerError: The ledger can't be read.
    """
    prepared = prepare_set(prompt_set, partitions, publishing=publishing)
    return prepared.deliver(dry_run=dry_run, on_progress=on_progress, on_wait=on_wait)


def prepare_set(
    prompt_set: PromptSet,
    partitions: Collection[str] | None = None,
    *,
    publishing: Publishing,
    again: Collection[str] = (),
) -> "Prepared":
    """Choose and name the pictures of a set, and find all that is wrong; nothing is written yet.

    ``again``: names of pictures that were taken down, and that may be published again.

    Raises:
        ConfigError, StoreError, LedgerError: As ``publish_set``.
    """
    publication = publication_of(prompt_set)
    renderer = Renderer(publishing.store, publication.variants, publishing.signer)
    _check(prompt_set, renderer)
    taken = [each for each in find_taken_down(publishing.store, prompt_set.name) if each.is_down]
    allowed = [each for each in taken if each.name in again]
    selection = select_images(
        prompt_set,
        publication,
        Current(prompt_set, partial(open_ledger, publishing.ledger)),
        None if partitions is None else list(partitions),
        begun_partitions(prompt_set),
        taken_down={each.source: each.paths for each in taken if each not in allowed},
        embeds_prompt=publishing.embed_prompt,
    )
    target = publishing.target(prompt_set, publication)
    return Prepared(prompt_set, publishing, target, renderer, selection, tuple(allowed))


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is to be published of one set, chosen and named."""

    prompt_set: PromptSet
    publishing: Publishing
    target: Target
    renderer: Renderer
    selection: Selection
    allowed: tuple[TakenDown, ...] = ()
    """What was taken down, and is published again."""

    def deliver(
        self,
        *,
        dry_run: bool = False,
        by: str = "",
        on_progress: Callable[[int, int], None] | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> PublishReport:
        """Deliver it, as ``publish_set`` says. ``by`` is who allows what was taken down."""
        publishing = self.publishing
        if not dry_run and self.allowed:
            event = Event(action=ALLOWED, at=utc(publishing.now()), by=by)
            _note_all(publishing.store, self.target, self.allowed, event, on_wait)
        delivery = Delivery(
            self.prompt_set.name,
            self.selection,
            self.target,
            self.renderer,
            now=publishing.now,
            threads=publishing.threads,
            on_progress=on_progress,
            on_wait=on_wait,
        )
        delivered = delivery.run(dry_run=dry_run)
        return _report(self, delivered, is_dry=dry_run)

    def read_entries(self) -> Mapping[str, Entry]:
        """What the index in the target has now, by name; on disk. Raises StoreError."""
        path = f"{self.selection.publication.index}.json"
        return fetch_index(self.target, path, self.prompt_set.name)[0].entries


def _check(prompt_set: PromptSet, renderer: Renderer) -> None:
    try:
        renderer.check()
    except ImageError as error:
        where = prompt_set.path or prompt_set.name
        raise ConfigError([Problem(where, 0, "publish.variants", str(error))]) from error


def _report(prepared: Prepared, delivered: Delivered, *, is_dry: bool) -> PublishReport:
    selection, uri = prepared.selection, prepared.target.uri
    picks = tuple(_pick_problems(prepared.prompt_set, selection))
    return PublishReport(
        prompt_set=prepared.prompt_set.name,
        uri=uri,
        index_uri=f"{uri}/{selection.publication.index}.json",
        images=delivered.images,
        files=delivered.files,
        written=delivered.written,
        unchanged=delivered.unchanged,
        removed=delivered.removed,
        left=delivered.left,
        taken_down=len(selection.taken_down),
        undecided=tuple(selection.undecided),
        failed=delivered.failed,
        problems=(*delivered.problems, *picks),
        pick_problems=picks,
        is_dry=is_dry,
    )


def _pick_problems(prompt_set: PromptSet, selection: Selection) -> list[str]:
    path = prompt_set.choice.path

    def name_nearest(pick: Pick) -> str:
        near = selection.nearest.get(pick.prompt)
        return "correct it or take the row out" if near is None else f"did you mean {near}?"

    found = [
        *(
            (pick, "was made anew after it was chosen: look at it and choose again")
            for pick in selection.stale
        ),
        *((pick, f"names no picture: {name_nearest(pick)}") for pick in selection.unknown),
        *((pick, "its prompt has no picture (yet): run the set") for pick in selection.waiting),
    ]
    return [f"{path}: {_describe(pick)} {what}" for pick, what in found]


def _describe(pick: Pick) -> str:
    day = f"{pick.partition}/" if pick.partition else ""
    return f"row {pick.row}: {day}{pick.prompt}, take {pick.take}, output {pick.output}:"


def take_down(
    prompt_set: PromptSet,
    names: Sequence[str],
    *,
    reason: str,
    by: str,
    publishing: Publishing,
    dry_run: bool = False,
    on_wait: Callable[[], None] | None = None,
) -> PublishReport:
    """Remove published pictures, by their names in the index, with their files; note who and why.

    They stay in store, ledger and lineage, and are not published again until they are named as
    ``again`` of ``prepare_set``. The note is written first: where the removal fails, the next
    publish does it.

    Raises:
        ConfigError: The index has no such name. Nothing was changed.
        StoreError: Store or target can't be used.
    """
    publication = publication_of(prompt_set)
    target = publishing.target(prompt_set, publication)
    taken = _published(prompt_set, publication, target, names)
    event = Event(action=TAKEN_DOWN, at=utc(publishing.now()), by=by, reason=reason)
    if not dry_run:
        taken = _note_all(publishing.store, target, taken, event, on_wait)
    selection = Selection(
        publication,
        partitions=frozenset(),
        taken_down={each.source for each in taken},
        lost_paths={path for each in taken for path in each.paths},
    )
    renderer = Renderer(publishing.store, publication.variants)
    prepared = Prepared(prompt_set, publishing, target, renderer, selection)
    return prepared.deliver(dry_run=dry_run, on_wait=on_wait)


def _note_all(
    store: Store,
    target: Target,
    taken: Sequence[TakenDown],
    event: Event,
    on_wait: Callable[[], None] | None,
) -> list[TakenDown]:
    """Write down what happens to pictures; of what two people do at once neither is lost."""
    with target.exclusive(on_wait) as keep:
        noted = []
        for each in taken:
            keep()
            noted.append(note(store, each, event))
        return noted


def _published(
    prompt_set: PromptSet, publication: Publication, target: Target, names: Sequence[str]
) -> list[TakenDown]:
    """What the index says of the pictures of these names. Raises ConfigError."""
    path = f"{publication.index}.json"
    index, _ = fetch_index(target, path, prompt_set.name)
    with spooled() as file:
        target.fetch(state_path(publication.index), file)
        state = read_state(file, Scratch())
    problems = []
    found = []
    for name in dict.fromkeys(names):
        entry = index.entries.get(name)
        if entry is None:
            near = difflib.get_close_matches(name, [*index.entries], n=3)
            hint = f"near it: {', '.join(near)}" if near else f"it has {len(index.entries)} others"
            problems.append(
                Problem(f"{target.uri}/{path}", 0, "", f"has no picture {name}; {hint}")
            )
            continue
        facts = state.find(name)
        values = entry.values()
        found.append(
            TakenDown(
                prompt_set=prompt_set.name,
                name=name,
                prompt_name=facts.prompt_name if facts else name,
                request_sha256=entry.source[0],
                output_index=entry.source[1],
                source_uri=str(values["source_uri"]),
                target=target.uri,
                paths=entry.paths,
                events=(),
            )
        )
    if problems:
        raise ConfigError(problems)
    return found
