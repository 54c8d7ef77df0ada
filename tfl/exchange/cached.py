"""The rows of a cache as a table: ids, labels and features, and a head's answers."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tfl import __version__
from tfl.cache import Cache
from tfl.exchange.table import Block, Column, count_block_rows
from tfl.metrics.softmax import log_softmax
from tfl.specs import Role, View

if TYPE_CHECKING:
    from tfl.exchange.answers import Answers

FORMAT = 1  # of `facts`
FEATURES = "features"
LOGITS = "logits"
PROBABILITIES = "probabilities"


def name_features(view: View) -> str:
    """Return the name of the column with a view's features."""
    return FEATURES if view == "original" else f"{FEATURES}_{view}"


@dataclass(frozen=True)
class CachedTable:
    """Rows of a cache, role after role.

    Attributes:
      views: a column of features of each.
      answers: of a run's head; None leaves the columns `logits` and `probabilities` out.
    """

    cache: Cache
    roles: tuple[Role, ...]
    views: tuple[View, ...]
    answers: "Answers | None" = None

    @property
    def num_rows(self) -> int:
        """Rows of all roles together."""
        return sum(self.cache.num_rows[role] for role in self.roles)

    @cached_property
    def columns(self) -> Mapping[str, Column]:
        """The columns, by name."""
        cache = self.cache
        features = Column("vector", cache.spec.features.feature_dtype, cache.num_features)
        columns = {
            "id": Column("text", width=max(cache.read_ids(role).dtype.itemsize for role in self.roles)),
            "role": Column("text", width=max(map(len, self.roles))),
            "label": Column("integer"),
            "class_name": Column("text", width=max(map(len, cache.class_names))),
            **{name_features(view): features for view in self.views},
        }
        if self.answers is not None:
            logits = Column("vector", "float32", len(self.answers.class_names))
            columns |= {LOGITS: logits, PROBABILITIES: logits}
        return columns

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the rows are: the cache's spec, and the run's recipe if there are answers."""
        spec = json.loads(self.cache.spec.to_json())
        return {
            "format": FORMAT,
            "tfl": __version__,
            "fingerprint": self.cache.spec.fingerprint,
            "backbone": spec["features"]["backbone"],
            "layers": spec["features"].get("layers", []),
            "spec": spec,
            "class_names": list(self.cache.class_names),
            **({} if self.answers is None else {"run": self.answers.describe()}),
        }

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Yield all rows of some columns; see `Table.blocks`."""
        for role in self.roles:
            yield from self._read_role(role, names)

    def _read_role(self, role: Role, names: Sequence[str]) -> Iterator[Block]:
        cache = self.cache
        ids, labels = cache.read_ids(role), cache.read_labels(role)
        views = self._list_read_views(names)
        start = 0
        for features in self._read_features(role, views):
            stop = start + len(features[views[0]]) if views else len(labels)
            known: dict[str, Any] = {
                "id": [id_.decode() for id_ in ids[start:stop].tolist()],
                "role": [role] * (stop - start),
                "label": labels[start:stop],
                "class_name": [cache.class_names[label] for label in labels[start:stop]],
                **{name_features(view): block for view, block in features.items()},
                **self._answer(features, names),
            }
            yield {name: known[name] for name in names}
            start = stop

    def _read_features(self, role: Role, views: Sequence[View]) -> Iterator[dict[View, np.ndarray]]:
        """Yield blocks `(m, d)` by view; of no view one block, which is empty."""
        if not views:
            yield {}
            return
        num_rows = count_block_rows([Column("vector", "float32", self.cache.num_features * len(views))])
        by_view = [self.cache.blocks(role, num_rows, view=view) for view in views]
        for blocks in zip(*by_view, strict=True):
            yield {view: features for view, (features, _) in zip(views, blocks, strict=True)}

    def _list_read_views(self, names: Sequence[str]) -> list[View]:
        """Return the views whose features some columns need."""
        views = [view for view in self.views if name_features(view) in names]
        if self.answers is not None and {LOGITS, PROBABILITIES} & set(names):
            views += self.answers.views
        return list(dict.fromkeys(views))

    def _answer(self, features: Mapping[View, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
        if self.answers is None or not {LOGITS, PROBABILITIES} & set(names):
            return {}
        logits = self.answers.compute([features[view] for view in self.answers.views])  # (m, c)
        return {LOGITS: logits, PROBABILITIES: np.exp(log_softmax(logits)).astype(np.float32)}
