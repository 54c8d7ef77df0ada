"""The cache file: features, labels and ids of one CacheSpec in HDF5, and the folder it grows in.

A file under its final name is whole. Until then it is a folder `<name>.partial` of shards, one file for each
range of rows. `cache/README.md` states the format.
"""

from tfl.cache.donors import Donors
from tfl.cache.file import Cache, CachedRows, list_caches, open_cache
from tfl.cache.ids import UniqueIds
from tfl.cache.inspection import inspect, list_overviews
from tfl.cache.partial import PartialCache, Shard
from tfl.cache.schema import MAX_ID_BYTES
from tfl.cache.shards import Cost, DamagedShardError
from tfl.cache.verification import verify

__all__ = [
    "MAX_ID_BYTES",
    "Cache",
    "CachedRows",
    "Cost",
    "DamagedShardError",
    "Donors",
    "PartialCache",
    "Shard",
    "UniqueIds",
    "inspect",
    "list_caches",
    "list_overviews",
    "open_cache",
    "verify",
]
