"""The plan of a precompute: what is resolved and opened before the first image, as one object."""

from dataclasses import dataclass

from tfl.backbones import Backbone
from tfl.cache import PartialCache
from tfl.datasets import Dataset
from tfl.specs import CacheSpec, Settings


@dataclass(frozen=True)
class Plan:
    """Everything that one precompute has resolved and opened.

    Attributes:
      spec: resolved; of the cache that is made.
      excluded: ids of images to leave out.
      unfinished: the shards of that cache, finished and missing.
    """

    dataset: Dataset
    spec: CacheSpec
    settings: Settings
    backbone: Backbone
    unfinished: PartialCache
    excluded: frozenset[str] = frozenset()

    @property
    def batch_size(self) -> int:
        """Images in one forward pass; smaller than requested once memory has not sufficed."""
        return self.unfinished.making.batch_size

    @property
    def num_images(self) -> int:
        """Number of images over all roles and views."""
        return sum(self.unfinished.num_rows.values()) * len(self.spec.views)
