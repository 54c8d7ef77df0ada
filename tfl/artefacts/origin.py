"""The dataset and the backbone that a cache was made from, opened again and checked against the cache."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np

from tfl import datasets
from tfl.backbones import Backbone, build_backbone, names_weights_file
from tfl.backbones.quantized import name_file, open_quantized
from tfl.cache import Cache
from tfl.errors import ExportError
from tfl.files import trust
from tfl.specs import INT8, MAX_IMAGE_PIXELS, Role


class Origin:
    """The dataset and the backbone of a cache; each is opened when it is first asked for.

    Args:
      dataset: where the dataset is now; empty for where `precompute` found it.
      weights: where the backbone's weights are now; empty for where `precompute` found them.
    """

    def __init__(self, cache: Cache, dataset: str = "", weights: str = "") -> None:
        self.cache = cache
        self._dataset = dataset
        self._weights = weights

    @property
    def weights(self) -> str:
        """The backbone's weights, in words: `imagenet`, `random` or a file.

        Raises:
          ExportError: a cache from elsewhere names a file.
        """
        typed: str = self._weights or self.cache.provenance.typed.weights
        is_file = names_weights_file(replace(self.cache.spec.features, weights=typed))
        if self._weights or not is_file:
            return typed
        return self._require_own("weights", typed)

    @cached_property
    def backbone(self) -> Backbone:
        """The backbone that the features were made with.

        Raises:
          ExportError: the weights are others; or the int8 network is not beside the cache, or another.
        """
        expected = self.cache.spec.features
        built = build_backbone(replace(expected, weights=self.weights))
        self._require_same_weights(built)
        return self._add_quantized(built) if expected.compute_dtype == INT8 else built

    def build_in_float32(self) -> Backbone:
        """Build the same network in float32, for what cannot compute as the features were made.

        Raises:
          ExportError: the weights are others.
        """
        spec = replace(self.cache.spec.features, compute_dtype="float32", quantized_network="")
        built = build_backbone(replace(spec, weights=self.weights))
        self._require_same_weights(built)
        return built

    def _require_same_weights(self, built: Backbone) -> None:
        expected = self.cache.spec.features.weights
        if built.spec.weights != expected:
            raise ExportError(
                f"the weights {self.weights!r} are not those that the features were made with",
                f"  weights: {expected} in the cache, {built.spec.weights} now",
            )

    def _add_quantized(self, built: Backbone) -> Backbone:
        """Return the backbone with the int8 network that lies beside the cache."""
        expected = self.cache.spec.features
        path = self.cache.path.parent / name_file(expected, expected.quantized_network)
        if not path.is_file():
            raise ExportError(
                f"the int8 network that the features were made with is not beside the cache: {path} was expected; "
                "bring it back from where the cache was made"
            )
        found = open_quantized(path)
        if found.digest != expected.quantized_network:
            raise ExportError(
                f"{path} is not the int8 network that the features were made with",
                f"  quantized_network: {expected.quantized_network} in the cache, {found.digest} now",
            )
        return built.use_quantized(found)

    @cached_property
    def dataset(self) -> datasets.Dataset:
        """The dataset that the features were made from, opened with the same bound on pixels.

        Raises:
          ExportError: it is another, or a cache from elsewhere names a file.
        """
        expected = self.cache.spec.dataset
        place = self._dataset or self._find_dataset()
        found = datasets.open_dataset(replace(expected, dataset=place, version=""), self._max_image_pixels)
        if found.version != expected.version:
            raise ExportError(
                f"the dataset {place!r} is not the one that the features were made from",
                f"  version: {expected.version} in the cache, {found.version} now",
            )
        return found

    def _find_dataset(self) -> str:
        """Return the word for the dataset; its name, if it was a file that is not on this machine."""
        typed = self.cache.provenance.typed.dataset
        word, is_path = datasets.find_recorded(typed, self.cache.spec.dataset)
        return self._require_own("dataset", word) if is_path else word

    def _require_own(self, what: str, place: str) -> str:
        """Refuse a place that a cache from elsewhere names: it does not choose which files are opened here."""
        if not trust.is_own(self.cache.path):
            raise ExportError(
                f"{self.cache.path} was not made here (or has been copied) and says that its {what} is {place}; "
                f"if so, say it as well: --{what} {place}"
            )
        return place

    @property
    def _max_image_pixels(self) -> int:
        """The bound that images were read under; the default if the provenance names none."""
        return self.cache.provenance.max_image_pixels or MAX_IMAGE_PIXELS

    def read_rows(self, role: Role) -> Iterator[datasets.Example]:
        """Yield the images of a role, in the cache's order, each checked by its id.

        Raises:
          ExportError: the dataset's rows are others.
        """
        split = self.cache.spec.dataset.roles[role]
        count = datasets.count_rows(self.dataset, split)
        usable = self.drop_unused(datasets.read_rows(self.dataset, split, 0, count))
        for expected in self.cache.read_ids(role).tolist():
            row = next(usable, None)
            if row is None or row.id.encode() != expected:
                received = "none" if row is None else repr(row.id)
                raise ExportError(
                    f"the rows of {self.dataset.name!r} are not those of the cache: {expected!r} was expected, "
                    f"got {received}"
                )
            yield row

    def sample_rows(self, role: Role, count: int) -> Iterator[datasets.Example]:
        """Yield about `count` images of a role, evenly from its first to its last: neighbours may share a class.

        Bad images among them are left out.
        """
        split = self.cache.spec.dataset.roles[role]
        total = datasets.count_rows(self.dataset, split)
        length = self.dataset.neighbours_read_together
        rows = np.arange(total)
        if total > count:
            starts = np.linspace(0, total - length, count // length).astype(int)
            rows = (starts[:, None] + np.arange(length)).ravel()
        gaps = np.flatnonzero(np.diff(rows) != 1) + 1
        for stretch in np.split(rows, gaps):
            found = datasets.read_rows(self.dataset, split, int(stretch[0]), int(stretch[-1]) + 1)
            yield from self.drop_unused(found)

    def find_positions(self, role: Role, rows: list[datasets.Example]) -> np.ndarray:
        """Return the positions of some rows in the cache, by their ids, `(n,)`.

        Raises:
          ExportError: the cache does not hold them in this order.
        """
        wanted = [row.id.encode() for row in rows]
        ids = self.cache.read_ids(role)
        positions = np.flatnonzero(np.isin(ids, wanted))
        if ids[positions].tolist() != wanted:
            raise ExportError(
                f"the rows of {self.dataset.name!r} are not those of the cache, in its order: "
                f"got {wanted[0]!r} to {wanted[-1]!r}"
            )
        return positions

    def drop_unused(self, rows: Iterable[datasets.Example | datasets.BadImage]) -> Iterator[datasets.Example]:
        """Yield the rows that the cache has: good images that `precompute` did not leave out."""
        left_out = {image.id for image in self.cache.provenance.skipped}
        for row in rows:
            if not isinstance(row, datasets.BadImage) and row.id not in left_out:
                yield row
