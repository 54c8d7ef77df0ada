"""What engines are measured on: some images, and one network in every compute dtype."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from keras import ops

from tfl.backbones import Backbone, build_backbone
from tfl.backbones.quantized import FORMAT, QuantizationOrigin, QuantizedNetwork
from tfl.engine.forward import Forward
from tfl.engine.quantizing import BATCH_SIZE, list_versions, quantize
from tfl.files import hashing
from tfl.specs import DIGEST_PREFIX, INT8, ComputeDtype, FeatureSpec

# The fields that a QuantizationOrigin takes from its backbone's FeatureSpec.
SHARED = (
    *("backbone", "weights", "image_size", "resize_mode", "interpolation", "antialias"),
    *("layers", "pooling", "revision"),
)


class Workload:
    """Some images, and a network in every compute dtype that is asked for; each is built once.

    Args:
      features: as typed; its compute dtype does not count.
      images: uint8 `(h, w, 3)`; they are repeated where there are too few.
      batch_size: images in one forward pass.
      image_shape: see `Forward`.
      built: the network in float32, if it is at hand.
    """

    def __init__(
        self,
        features: FeatureSpec,
        images: Sequence[np.ndarray],
        batch_size: int,
        image_shape: tuple[int, int] | None = None,
        built: Backbone | None = None,
    ) -> None:
        self._features, self._images, self._image_shape = features, images, image_shape
        self.batch_size = batch_size
        self._backbones = {"float32": built} if built is not None else {}
        self._quantizing_seconds: float | None = None

    def take(self, count: int, start: int = 0) -> list[np.ndarray]:
        """Return images from one on; the first ones again after the last."""
        return [self._images[index % len(self._images)] for index in range(start, start + count)]

    def build(self, compute_dtype: ComputeDtype) -> float | None:
        """Build the network in a dtype; return the seconds of quantising it on `BATCH_SIZE` images, if it is int8."""
        if compute_dtype in self._backbones:
            return None
        if compute_dtype != INT8:
            spec = replace(self._features, compute_dtype=compute_dtype)
            self._backbones[compute_dtype] = build_backbone(spec)
            return None
        self.build("float32")
        started = time.perf_counter()
        self._backbones[INT8] = _quantize(self._backbones["float32"], self.take(BATCH_SIZE))
        return time.perf_counter() - started

    def compile(self, engine: str, compute_dtype: ComputeDtype, batch_size: int) -> Forward:
        """Compile the forward pass of a network that `build` has built."""
        return Forward(self._backbones[compute_dtype], batch_size, engine, self._image_shape, is_kept=False)


@dataclass(frozen=True)
class _TrialNetwork(QuantizedNetwork):
    """A quantised network that has no file: nobody uses its features."""

    graph: bytes = b""
    weights: bytes = b""

    def read_graph(self) -> tuple[bytes, bytes]:
        """Return OpenVINO's IR: the graph as XML, and the weights."""
        return self.graph, self.weights


def _quantize(backbone: Backbone, images: Sequence[np.ndarray]) -> Backbone:
    """Return a backbone of float32 layers, quantised on a few images: its rate is that of any other quantisation."""
    in_int8 = backbone.change_dtype(INT8)
    pixels = [np.asarray(ops.convert_to_numpy(in_int8.resize(image[None]))[0]) for image in images]
    graph, weights = quantize(backbone, pixels)
    origin = QuantizationOrigin(
        **{name: getattr(backbone.spec, name) for name in SHARED},
        format=FORMAT,
        images="none",
        split="",
        num_images=len(images),
        seed=0,
        versions=list_versions(),
    )
    digest = DIGEST_PREFIX + hashing.hash_bytes(graph + weights)
    return in_int8.use_quantized(_TrialNetwork(Path("trial"), digest, origin, graph, weights))
