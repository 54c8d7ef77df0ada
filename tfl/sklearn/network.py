"""The frozen networks of this process, made ready to run; estimators of the same parameters share one."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from tfl import engine
from tfl.backbones import build_backbone, names_weights_file
from tfl.files.paths import expand_user
from tfl.machine.batching import MAX_BATCH_BYTES
from tfl.sklearn.errors import EstimatorError
from tfl.specs import INT8, FeatureSpec

FEW = 4  # images that cost less one by one than as a batch that is padded
MAX_NETWORKS = 2  # in memory at once, with their weights
SHARD_ROWS = 1024  # the rows that `tfl precompute` writes together, by which its batch size is chosen


class Way(NamedTuple):
    """A network, as it was typed, and how it is run."""

    spec: FeatureSpec
    engine: str
    batch_size: int


class Network:
    """A frozen backbone, made ready to run on any number of images.

    Attributes:
      key: of everything that its features depend on.
    """

    def __init__(self, way: Way) -> None:
        self._engine = engine.resolve_engine(way.engine, way.spec.compute_dtype)
        self.backbone = build_backbone(way.spec)
        self.batch_size = engine.round_to_devices(way.batch_size) or engine.default_batch_size(SHARD_ROWS)
        self.key = f"{self._engine} {self.backbone.spec.fingerprint}"
        self._forwards: dict[int, engine.Forward] = {}

    @property
    def spec(self) -> FeatureSpec:
        """The resolved spec: `weights` is the digest of the tensors."""
        return self.backbone.spec

    @property
    def num_features(self) -> int:
        """Columns of the features, d."""
        return self.backbone.num_features

    def compute(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return the float32 features `(n, d)` of images, uint8 `(h, w, 3)` or `shrink`'s pixels.

        Raises:
          EstimatorError: a batch does not fit into memory.
        """
        size = engine.round_to_devices(1) if len(images) <= FEW else self.batch_size
        try:
            return self._forward(size).compute_all(images)
        except Exception as error:
            if not engine.is_out_of_memory(error):
                raise
            raise EstimatorError(
                f"memory does not suffice for batches of {size} images on {engine.device_name()}; set a smaller "
                "batch_size"
            ) from error

    def shrink(self, image: np.ndarray) -> np.ndarray:
        """Return an image, or the network's pixels of it if it is large: many wait in memory for their batch."""
        if image.nbytes <= MAX_BATCH_BYTES // self.batch_size:
            return image
        return self._forward(self.batch_size).presented(image)

    def _forward(self, size: int) -> engine.Forward:
        """Return the forward pass on batches of a size, compiled when it is first needed."""
        if size not in self._forwards:
            self._forwards[size] = engine.Forward(self.backbone, size, self._engine)
        return self._forwards[size]


_networks: OrderedDict[tuple[str, ...], Network] = OrderedDict()
_lock = threading.Lock()  # a search may fit in several threads


def open_network(way: Way) -> Network:
    """Return the network, made ready to run; the last ones of this process are kept.

    Raises:
      EstimatorError: the compute dtype is int8.
      BackboneError, AssetError, SpecError: see `build_backbone`.
      TflError: the engine cannot serve here.
    """
    if way.spec.compute_dtype == INT8:
        raise EstimatorError(
            "compute_dtype int8 is quantised on training images, which `tfl precompute` keeps beside its cache; "
            "expected float32, bfloat16 or float16 here"
        )
    key = _describe(way)
    with _lock:
        if key not in _networks:
            _networks[key] = Network(way)
        _networks.move_to_end(key)
        while len(_networks) > MAX_NETWORKS:
            _networks.popitem(last=False)
        return _networks[key]


def _describe(way: Way) -> tuple[str, ...]:
    """Return all that decides a network; a file of weights counts with its time and size."""
    words = (way.spec.to_json(), way.engine, str(way.batch_size), keras.backend.backend())
    if not names_weights_file(way.spec):
        return words
    return (*words, _describe_file(expand_user(way.spec.weights)))


def _describe_file(path: Path) -> str:
    try:
        state = path.stat()
    except OSError:  # whoever opens it says why
        return ""
    return f"{state.st_mtime_ns} {state.st_size}"
