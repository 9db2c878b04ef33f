"""The events of one run of one prompt set, each for its own partition."""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import dagster as dg

from flux_pipeline.defs.commit import find_commit
from flux_pipeline.defs.keys import SetKeys
from flux_pipeline.defs.metadata import PREVIEW, images_metadata, prompts_metadata
from flux_pipeline.defs.provenance import find_upstream, images_version, version_tags
from flux_pipeline.defs.requests import read_contents, requests_by_partition
from flux_pipeline.defs.specs import GALLERY_VERSION, IMAGES_VERSION, prompts_version
from flux_pipeline.errors import FluxPipelineError
from flux_pipeline.lineage.gallery import build_gallery, gallery_key
from flux_pipeline.produce.budgets import Limits
from flux_pipeline.produce.report import PartitionReport
from flux_pipeline.produce.run import RunContext
from flux_pipeline.prompts import PromptSet
from flux_pipeline.resources import ImageProducer

_SAY_EVERY = 10.0  # s between two lines in the run's log, each of which costs 2-4 ms
