"""Finds the pictures that must stay because they were chosen or are published."""

from collections.abc import Mapping, Sequence

from flux_pipeline.prompts import PromptSet
from flux_pipeline.prompts.picks import picks_of
from flux_pipeline.publish.index import fetch_index
from flux_pipeline.publish.selection import index_paths
from flux_pipeline.store.base import Store
from flux_pipeline.store.open import open_target
from flux_pipeline.store.target import TargetOptions
from flux_pipeline.store_options import NO_OPTIONS, StoreOptions


def find_protected(
    store: Store, prompt_sets: Sequence[PromptSet], options: StoreOptions = NO_OPTIONS
) -> Mapping[str, str]:
    """Why pictures must stay, by the SHA-256 of their pixels (chosen) or request (published).

    Read are the picks of every set, and the index of every set that is published.

    Raises:
        ConfigError: Picks are wrong.
        StoreError: An index can't be read: what is published is not known then.
    """
    reasons: dict[str, str] = {}
    for prompt_set in prompt_sets:
        reasons |= _published(store, prompt_set, options)
        for pick in picks_of(prompt_set):
            if pick.image_sha256:
                reasons[pick.image_sha256] = f"chosen in {prompt_set.choice.path}"
    return reasons


def _published(store: Store, prompt_set: PromptSet, options: StoreOptions) -> dict[str, str]:
    publication = prompt_set.publish
    if publication is None:
        return {}
    target = open_target(
        publication.to,
        TargetOptions(),
        store_uri=store.uri,
        store_options=options,
        default=f"published/{prompt_set.name}",
    )
    path = index_paths(publication)[0]
    place = f"{target.uri}/{path}"
    index, _ = fetch_index(target, path, prompt_set.name)
    requests = (str(entry.values()["request_sha256"]) for _, entry in index.entries.pairs())
    return dict.fromkeys(requests, f"published, see {place}")
