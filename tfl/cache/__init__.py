"""The cache file: features, labels and ids of one CacheSpec in HDF5.

A file under its final name is whole. Until then there is a folder `<name>.partial` of shards, one
file for each range of rows. `cache/README.md` states the format.
"""

from tfl.cache.file import Cache, CachedRows, list_caches, open_cache
from tfl.cache.ids import UniqueIds
from tfl.cache.inspection import Inspection, Overview, PartialInspection, inspect, list_overviews
from tfl.cache.networks import NetworkFile, list_networks, remove_network
from tfl.cache.partial import PartialCache, Shard
from tfl.cache.plain_files import write_whole
from tfl.cache.provenance import CopiedRows, Provenance, SkippedImage
from tfl.cache.reuse import ReusableCaches
from tfl.cache.schema import MAX_ID_BYTES
from tfl.cache.shards import Cost, DamagedShardError
from tfl.cache.verification import verify

__all__ = [
    "MAX_ID_BYTES",
    "Cache",
    "CachedRows",
    "CopiedRows",
    "Cost",
    "DamagedShardError",
    "Inspection",
    "NetworkFile",
    "Overview",
    "PartialCache",
    "PartialInspection",
    "Provenance",
    "ReusableCaches",
    "Shard",
    "SkippedImage",
    "UniqueIds",
    "inspect",
    "list_caches",
    "list_networks",
    "list_overviews",
    "open_cache",
    "remove_network",
    "verify",
    "write_whole",
]
