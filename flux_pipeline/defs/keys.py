"""Asset keys, job names and run tags of a prompt set, and the name of the code location."""

from collections.abc import Mapping
from dataclasses import dataclass

import dagster as dg

from flux_pipeline.prompts import PromptSet

CODE_LOCATION = "flux_pipeline"
"""As in ``workspace.yaml`` and ``[tool.dg.project]``."""
SHARED_TAG = "flux/prompt_sets"
"""The tag of a run that makes several prompt sets, with their names; it has no ``set_tags``."""
LINEAGE = dg.AssetKey("lineage")
SPEND = dg.AssetKey("spend")
GALLERY = dg.AssetKey("gallery")


@dataclass(frozen=True, slots=True)
class SetKeys:
    """The asset keys of one prompt set."""

    prompt_set: str

    @property
    def prompts(self) -> dg.AssetKey:
        """``<set>/prompts``: the requests."""
        return dg.AssetKey([self.prompt_set, "prompts"])

    @property
    def images(self) -> dg.AssetKey:
        """``<set>/images``: the images made from them."""
        return dg.AssetKey([self.prompt_set, "images"])

    @property
    def gallery(self) -> dg.AssetKey:
        """``<set>/gallery``: the page that shows the images."""
        return dg.AssetKey([self.prompt_set, "gallery"])

    @property
    def published(self) -> dg.AssetKey:
        """``<set>/published``: the files made of chosen images; of sets with ``publish`` alone."""
        return dg.AssetKey([self.prompt_set, "published"])

    @property
    def all(self) -> frozenset[dg.AssetKey]:
        """Prompts, images and gallery, which every set has."""
        return frozenset((self.prompts, self.images, self.gallery))

    @property
    def io_manager(self) -> str:
        """The resource key of the IO manager of ``<set>/images``."""
        return f"{self.prompt_set}_images"

    @property
    def ordered(self) -> tuple[dg.AssetKey, ...]:
        """Those three, each after what it is made of."""
        return self.prompts, self.images, self.gallery

    @property
    def job(self) -> str:
        """The job that makes all assets of the set."""
        return f"make_{self.prompt_set}"

    @property
    def chain_job(self) -> str:
        """The job that makes this set and all that follow it, in one run."""
        return f"make_{self.prompt_set}_and_followers"


def asset_keys(prompt_set: PromptSet) -> tuple[dg.AssetKey, ...]:
    """The keys of all assets of a set, each after what it is made of."""
    keys = SetKeys(prompt_set.name)
    return keys.ordered if prompt_set.publish is None else (*keys.ordered, keys.published)


def set_tags(prompt_set: PromptSet) -> Mapping[str, str]:
    """The tags of every run of this prompt set, by which the UI can filter."""
    return {"flux/prompt_set": prompt_set.name, "flux/model": prompt_set.model.name}
