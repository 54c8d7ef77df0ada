"""`--quantize-check`: what int8 costs in accuracy, told by a quick head on a few rows. No test row is read."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfl import datasets, engine
from tfl.backbones import Backbone
from tfl.datasets import Dataset, Example
from tfl.engine.accuracy_aware import find_layers_at_fault
from tfl.engine.openvino import OPENVINO
from tfl.errors import DatasetError, SpecError, TflError
from tfl.extraction.quantization import list_calibration_images, present
from tfl.machine import batching
from tfl.specs import INT8, DatasetSpec, FeatureSpec, Settings

logger = logging.getLogger(__name__)

NUM_ROWS = 1000  # of each part: a difference of 0.5 points is 5 of them
SEED = 1  # other images than those of the calibration, by chance
L2 = 1.0  # penalty on the kernel, beside mean squared error on standardised features
MAX_LOSS = 0.005  # share of held-out rows; a larger loss is a warning


@dataclass(frozen=True)
class Part:
    """Rows to fit the head on, or held out."""

    images: list[np.ndarray]
    labels: np.ndarray  # (n,)

    @classmethod
    def from_examples(cls, examples: Sequence[Example]) -> "Part":
        """Return the images and labels of examples."""
        return cls([example.image for example in examples], np.array([example.label for example in examples], int))


@dataclass(frozen=True)
class QuantizeCheck:
    """What a head on int8 features lost against one on float32 features.

    Attributes:
      num_fitted: rows that each head was fitted on.
      held_out: role and number of rows that it was measured on: `1,000 val`.
      num_changed: held-out rows that the two heads classify differently.
      features_moved: norm of the difference of the features over that of float32's.
    """

    num_fitted: int
    held_out: str
    float32_accuracy: float
    int8_accuracy: float
    num_changed: int
    features_moved: float

    @property
    def loss(self) -> float:
        """Accuracy that int8 loses, in shares of the held-out rows; negative if it gains."""
        return self.float32_accuracy - self.int8_accuracy

    def __str__(self) -> str:
        points = round(-100 * self.loss, 1) or 0.0  # no -0.0
        return (
            f"int8 check: a head on {self.num_fitted:,} training rows classifies {self.int8_accuracy:.1%} of "
            f"{self.held_out} rows ({self.float32_accuracy:.1%} in float32): {points:+.1f} points, "
            f"{self.num_changed} rows otherwise; the features differ by {self.features_moved:.1%}"
        )


def require_int8(features: FeatureSpec, settings: Settings) -> None:
    """Refuse to check another arithmetic than int8.

    Raises:
      SpecError: `quantize_check` was asked for, and there is nothing to check.
    """
    if settings.quantize_check and features.compute_dtype != INT8:
        raise SpecError(
            f"--quantize-check compares int8 with float32, got --compute-dtype {features.compute_dtype}; "
            "add --compute-dtype int8, or leave it out"
        )


def check_quantized(backbone: Backbone, dataset: Dataset, spec: DatasetSpec) -> QuantizeCheck:
    """Measure and log what the quantised network costs; warn if it is more than `MAX_LOSS`.

    Args:
      backbone: in int8.
      spec: resolved.

    Raises:
      DatasetError: there are too few rows to check on.
    """
    fitted, held_out, role = _choose_rows(dataset, spec)
    images = fitted.images + held_out.images
    exact = _compute(backbone.change_dtype("float32"), images, dataset)  # (n, d)
    quantized = _compute(backbone, images, dataset)  # (n, d)
    answers = [fit_and_classify(features, fitted.labels, len(held_out.labels)) for features in (exact, quantized)]
    accuracies = [float(np.mean(each == held_out.labels)) for each in answers]
    check = QuantizeCheck(
        num_fitted=len(fitted.labels),
        held_out=f"{len(held_out.labels):,} {role}",
        float32_accuracy=accuracies[0],
        int8_accuracy=accuracies[1],
        num_changed=int(np.sum(answers[0] != answers[1])),
        features_moved=float(np.linalg.norm(quantized - exact)) / max(float(np.linalg.norm(exact)), 1e-30),
    )
    logger.info("%s", check)
    if check.loss > MAX_LOSS:
        _warn(check, backbone, dataset, fitted, held_out)
    return check


def fit_and_classify(features: np.ndarray, labels: np.ndarray, num_held_out: int) -> np.ndarray:
    """Fit a ridge head on the first rows and return the classes of the last ones, `(num_held_out,)`.

    Least squares with an L2 penalty in its dual form: with standardised features x and targets y of
    n rows, the outputs of rows z are z x' (x x' + n L2)^-1 y.

    Args:
      features: `(n + num_held_out, d)`.
      labels: of the first rows, `(n,)`.
    """
    fitting = features[: len(labels)].astype(np.float64)  # (n, d)
    held_out = features[len(features) - num_held_out :].astype(np.float64)  # (m, d)
    mean, deviation = fitting.mean(axis=0), fitting.std(axis=0)  # (d,)
    deviation[deviation < 1e-6 * deviation.max(initial=0)] = np.inf  # a constant feature tells nothing
    deviation[deviation == 0] = np.inf
    fitting, held_out = (fitting - mean) / deviation, (held_out - mean) / deviation
    classes, indices = np.unique(labels, return_inverse=True)
    targets = np.eye(len(classes))[indices]  # (n, c)
    gram = fitting @ fitting.T + L2 * len(labels) * np.eye(len(labels))  # (n, d) @ (d, n)
    coefficients = np.linalg.solve(gram, targets - targets.mean(axis=0))  # (n, c)
    outputs = held_out @ fitting.T @ coefficients + targets.mean(axis=0)  # (m, d) @ (d, n) @ (n, c)
    return np.asarray(classes[outputs.argmax(axis=1)])


def _choose_rows(dataset: Dataset, spec: DatasetSpec) -> tuple[Part, Part, str]:
    """Return rows to fit on, rows held out, and the role of the latter: val rows if there are any.

    Raises:
      DatasetError: one of them lacks labels of two classes.
    """
    if not spec.train_split:
        raise DatasetError("--quantize-check fits a head on training images, and there is no --train-split")
    num_training = NUM_ROWS if spec.val_split else 2 * NUM_ROWS
    training = _sample(dataset, spec.train_split, num_training)
    if spec.val_split:
        fitted, held_out, role = training, _sample(dataset, spec.val_split, NUM_ROWS), "val"
    else:
        labels = np.array([example.label for example in training])
        chosen = set(datasets.choose_by_class(labels, len(labels) // 2, np.random.default_rng(SEED)))
        fitted = [example for position, example in enumerate(training) if position in chosen]
        held_out = [example for position, example in enumerate(training) if position not in chosen]
        role = "other training"
    parts = Part.from_examples(fitted), Part.from_examples(held_out)
    if any(len(np.unique(part.labels)) < 2 for part in parts):
        raise DatasetError(
            f"--quantize-check needs rows of two classes to fit a head on and as many held out; {dataset.name} has "
            f"{len(fitted)} and {len(held_out)} labelled rows to choose from"
        )
    return *parts, role


def _sample(dataset: Dataset, split: str, count: int) -> list[Example]:
    return [example for example in datasets.sample_by_class(dataset, split, count, SEED) if example.label >= 0]


def _compute(backbone: Backbone, images: list[np.ndarray], dataset: Dataset) -> np.ndarray:
    """Return the features of all images, `(n, d)`."""
    forward = engine.Forward(backbone, batching.BATCH_SIZE, OPENVINO.name, dataset.image_shape)
    return forward.compute_all(images)


def _warn(check: QuantizeCheck, backbone: Backbone, dataset: Dataset, fitted: Part, held_out: Part) -> None:
    """Say what to take instead, and which layers are at fault if that can be told."""
    logger.warning(
        "int8 loses %.1f points on %s rows; take --compute-dtype bfloat16 or float32", 100 * check.loss, check.held_out
    )
    logger.info("looking for the layers at fault; this takes minutes")
    try:
        layers = _find_layers(backbone, dataset, fitted, held_out)
    except TflError as error:
        logger.warning("which layers are at fault cannot be told: %s", error)
        return
    if layers:
        logger.warning("kept in float32, these layers make it less: %s", ", ".join(layers))
    else:
        logger.warning("no few layers are at fault")


def _find_layers(backbone: Backbone, dataset: Dataset, fitted: Part, held_out: Part) -> list[str]:
    def measure(features: np.ndarray) -> float:
        answers = fit_and_classify(features, fitted.labels, len(held_out.labels))
        return float(np.mean(answers == held_out.labels))

    assert backbone.quantized is not None
    calibration = list_calibration_images(dataset, backbone.quantized.origin.split)
    pixels = list(present(backbone, fitted.images + held_out.images))
    return find_layers_at_fault(backbone, list(present(backbone, calibration)), pixels, measure, MAX_LOSS)
