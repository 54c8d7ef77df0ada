"""How an int8 network is best calibrated: how many images, and which of the ways that NNCF offers."""

import contextlib
import functools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import numpy as np
import tyro
from measure import attempt, tell
from record import RESULTS, new_result, write_result

QUESTION = "Seconds and accuracy of calibrating an int8 network, by number of images and way"
LIBRARIES = ("keras", "tensorflow", "openvino", "nncf", "numpy", "scipy")
NUM_IMAGES = (32, 64, 128, 320)
USUAL = 128  # images of the two ways that are tried with one number alone
BATCH_SIZE = 32
FloatDtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Variant:
    """A way to calibrate; the defaults are those of `tfl.engine.quantizing`, but for the number of images."""

    num_images: int
    is_corrected: bool = False
    """Whether biases are corrected."""
    preset: str = "MIXED"
    """`MIXED`: activations may have a zero point; `PERFORMANCE`: they have none."""
    is_overflow_fixed: bool = False
    """Whether weights keep to 7 bits, for processors without VNNI."""

    @property
    def name(self) -> str:
        """What it is called in the result."""
        words = [f"{self.num_images} images"]
        if self.is_corrected:
            words.append("biases corrected")
        if self.preset != "MIXED":
            words.append(self.preset)
        if self.is_overflow_fixed:
            words.append("weights of 7 bits")
        return ", ".join(words)


def list_variants() -> list[Variant]:
    """Return every number of images with and without corrected biases, and the usual number in the other ways."""
    variants = [Variant(count, is_corrected) for is_corrected in (False, True) for count in NUM_IMAGES]
    base = Variant(USUAL)
    return [*variants, replace(base, preset="PERFORMANCE"), replace(base, is_overflow_fixed=True)]


def main(
    dataset: str = "cifar10",
    splits: tuple[str, str] = ("train[:4000]", "train[4000:8000]"),
    image_size: int = 224,
    seeds: int = 3,
    only: tuple[str, ...] = (),
    out: Path = RESULTS / "calibration.json",
) -> None:
    """Quantise in each way with several samples of images, and train a head on the features of each.

    The head is `ridge`. Both splits should be of training images: the test images decide nothing here.

    Args:
      dataset: As `tfl precompute` takes it.
      splits: Rows that calibrate and train, and rows that measure.
      image_size: As `tfl precompute` takes it.
      seeds: Samples of calibration images for each way.
      only: Names of ways as the result has them; all if none is named.
      out: The JSON file to write.
    """
    bench = Bench(dataset, splits, image_size)
    dtypes: tuple[FloatDtype, ...] = ("float32", "bfloat16")
    for dtype in dtypes:
        attempt(dtype, functools.partial(bench.measure_float, dtype), bench.failed)
    variants = [variant for variant in list_variants() if not only or variant.name in only]
    for seed in range(seeds):
        for variant in variants:
            attempt(variant.name, functools.partial(bench.measure_variant, variant, seed), bench.failed)
        further = {"settings": bench.settings, "failed": bench.failed}
        write_result(out, new_result(QUESTION, bench.results, LIBRARIES, **further))


class Bench:
    """Images, their float32 features, and what has been found."""

    def __init__(self, dataset: str, splits: tuple[str, str], image_size: int) -> None:
        from tfl import datasets
        from tfl.datasets.rows import read_rows
        from tfl.specs import DatasetSpec, FeatureSpec

        typed = DatasetSpec(dataset, splits[0], "", splits[1])
        self.dataset = datasets.open_dataset(typed)
        self.spec = datasets.resolve_spec(typed, self.dataset)
        self.features = FeatureSpec(image_size=image_size)
        rows = [read_rows(self.dataset, split, 0, 1 << 40) for split in splits]
        self.examples = [list(datasets.require_good_images(of_split)) for of_split in rows]
        self.settings = {"dataset": dataset, "splits": splits, "image_size": image_size, "head": "ridge"}
        self.results: dict[str, dict[str, list[float]]] = {"seconds": {}, "relative_change": {}, "accuracy": {}}
        self.failed: dict[str, str] = {}
        self._float32: np.ndarray | None = None

    def measure_float(self, dtype: FloatDtype) -> None:
        """Compute the features in an arithmetic that needs no calibration, and train a head on them."""
        from tfl import engine
        from tfl.backbones import backbone

        built = backbone.build_backbone(replace(self.features, compute_dtype=dtype))
        features = self._compute(built, engine.resolve_engine("auto", dtype))
        if self._float32 is None:
            self._float32 = np.concatenate(features)
        self._note(dtype, features)

    def measure_variant(self, variant: Variant, seed: int) -> None:
        """Quantise in one way, compute the features, and train a head on them."""
        from tfl.extraction import quantization

        features = replace(self.features, compute_dtype="int8")
        sample = mock.patch.multiple(quantization, NUM_IMAGES=variant.num_images, SEED=seed)
        with tempfile.TemporaryDirectory() as folder, sample, changed_method(variant):
            started = time.perf_counter()
            built = quantization.add_quantized(self._unquantized, features, self.dataset, self.spec, Path(folder))
            seconds = time.perf_counter() - started
            found = self._compute(built, "openvino")
        self.results["seconds"].setdefault(variant.name, []).append(seconds)
        self._note(variant.name, found)

    @functools.cached_property
    def _unquantized(self) -> Any:
        from tfl.backbones import backbone

        return backbone.build_backbone(replace(self.features, compute_dtype="int8"))

    def _compute(self, built: Any, engine_name: str) -> list[np.ndarray]:
        """Return the features of both splits, `(n, d)` each."""
        from tfl import engine

        forward = engine.Forward(built, BATCH_SIZE, engine_name, self.examples[0][0].image.shape[:2])
        found = []
        for examples in self.examples:
            starts = range(0, len(examples), BATCH_SIZE)
            batches = [[example.image for example in examples[start : start + BATCH_SIZE]] for start in starts]
            found.append(np.concatenate([forward.features(batch) for batch in batches]))
        return found

    def _note(self, name: str, features: list[np.ndarray]) -> None:
        """Note how far features are from float32's, and the accuracy of a head on them."""
        assert self._float32 is not None
        difference = np.linalg.norm(np.concatenate(features) - self._float32)
        change = float(difference / np.linalg.norm(self._float32))
        accuracy = self._train(features)
        self.results["relative_change"].setdefault(name, []).append(change)
        self.results["accuracy"].setdefault(name, []).append(accuracy)
        tell(f"{name}: features moved by {change:.3f}, {accuracy:.2%}")

    def _train(self, features: list[np.ndarray]) -> float:
        """Train `ridge` on the first split, and return its accuracy on the second."""
        from tfl.heads import Ridge
        from tfl.heads.model import compute_logits
        from tfl.heads.rows import LabelledFeatures, split_rows
        from tfl.heads.search import search

        labels, held_out = ([example.label for example in examples] for examples in self.examples)
        num_classes = max(labels) + 1
        weights = np.ones(num_classes, np.float32)
        rows = LabelledFeatures((features[0],), np.asarray(labels, np.int64), num_classes, weights)
        fitting, val, everything = split_rows(rows, 0.1, 0, self.dataset.class_names)
        head = search(Ridge(), fitting, val).refit(everything)
        return float((compute_logits(head, features[1]).argmax(axis=1) == held_out).mean())


@contextlib.contextmanager
def changed_method(variant: Variant) -> Iterator[None]:
    """Let NNCF quantise in this way, whatever tfl asks of it."""
    from tfl.machine import packages

    nncf = packages.require_package("nncf", "int8")
    quantize = nncf.quantize

    def quantize_in_this_way(*arguments: Any, **options: Any) -> Any:
        fix = nncf.OverflowFix.ENABLE if variant.is_overflow_fixed else nncf.OverflowFix.DISABLE
        advanced = nncf.AdvancedQuantizationParameters(
            disable_bias_correction=not variant.is_corrected, overflow_fix=fix
        )
        preset = nncf.QuantizationPreset[variant.preset]
        return quantize(*arguments, **{**options, "preset": preset, "advanced_parameters": advanced})

    with mock.patch.object(nncf, "quantize", quantize_in_this_way):
        yield


if __name__ == "__main__":
    tyro.cli(main)
