"""The quantised networks that lie beside int8 caches, and the caches that they compute."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfl.cache.inspection import Overview, list_overviews
from tfl.errors import CacheError
from tfl.files import hashing
from tfl.files.paths import expand_user
from tfl.specs import DIGEST_PREFIX
from tfl.specs.features import QUANTIZED_ENDING


@dataclass(frozen=True)
class NetworkFile:
    """The file of a quantised network.

    Attributes:
      digest: `sha256:...` of the file, as the specs of its caches have it.
      used_by: names of these caches, finished or not.
    """

    name: str
    bytes: int
    digest: str
    used_by: list[str]


def list_networks(folder: Path, caches: Sequence[Overview]) -> list[NetworkFile]:
    """Describe the quantised networks in a folder, in order of name.

    Args:
      caches: those in the same folder.

    Raises:
      CacheError: a file cannot be read.
    """
    return [_describe(path, caches) for path in sorted(expand_user(folder).glob(f"*{QUANTIZED_ENDING}"))]


def remove_network(path: Path) -> None:
    """Remove the file of a quantised network that no cache in its folder uses.

    Raises:
      CacheError: a cache uses it, or it is another file, or it cannot be removed.
    """
    path = expand_user(path)
    if not path.name.endswith(QUANTIZED_ENDING) or not path.is_file():
        raise CacheError(f"quantised networks are removed, files *{QUANTIZED_ENDING}; got {path}")
    network = _describe(path, list_overviews(path.parent))
    if network.used_by:
        raise CacheError(
            f"{path} is needed to compute more rows of {', '.join(network.used_by)}, and to predict with it; "
            "remove the cache first"
        )
    try:
        path.unlink()
    except OSError as error:
        raise CacheError(f"{path} cannot be removed: {error.strerror}") from error


def _describe(path: Path, caches: Sequence[Overview]) -> NetworkFile:
    try:
        num_bytes, digest = path.stat().st_size, DIGEST_PREFIX + hashing.hash_file(path)
    except (OSError, ValueError) as error:
        raise CacheError(f"{path}: {error}") from error
    used_by = [cache.name for cache in caches if cache.spec.features.quantized_network == digest]
    return NetworkFile(path.name, num_bytes, digest, used_by)
