"""The settings of each recipe, a named way to train a head; `head` carries them out.

A setting that is a tuple lists candidates; validation rows choose one of them.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from tfl.errors import SpecError
from tfl.specs import VIEWS, View

MAX_BATCH_SIZE = 1 << 16  # memory is taken for whole batches, however few rows there are
# Twelve values, two a decade, from "nearly the class means" to "nearly unpenalised" for standardised features.
L2_PATH = (1.0, 0.32, 0.1, 0.032, 0.01, 0.0032, 0.001, 3.2e-4, 1e-4, 3.2e-5, 1e-5, 3.2e-6)
RIDGE_PATH = tuple(float(f"{10 ** (exponent / 4):.2g}") for exponent in range(4, -21, -1))  # 10 to 1e-5


@dataclass(frozen=True)
class Reference:
    """The seed article's recipe: one Dense layer, softmax cross-entropy from logits, SGD with momentum."""

    epochs: int = 10
    """Passes over the training rows."""
    batch_size: int = 32
    """Rows in one step; the article names none."""
    learning_rate: float = 0.001
    """Step size of SGD."""
    momentum: float = 0.9
    """Share of the last step that the next one keeps."""
    seed: int = 0
    """Decides the initial kernel and the order of the rows in every epoch."""

    def __post_init__(self) -> None:
        _require_finite(self)
        _require_at_least(1, epochs=self.epochs)
        _require_batch_size(self.batch_size)
        _require_at_least(0, seed=self.seed)
        if not (self.learning_rate > 0 and 0 <= self.momentum < 1):
            raise SpecError(
                f"learning_rate is positive and momentum in [0, 1), got {self.learning_rate} and {self.momentum}"
            )


@dataclass(frozen=True)
class Grid:
    """Many heads trained together in one pass, as the reference trains one; validation chooses."""

    learning_rate: tuple[float, ...] = (0.0003, 0.001, 0.003, 0.01)
    """Step sizes of SGD."""
    weight_decay: tuple[float, ...] = (0.0, 0.001, 0.01, 0.1)
    """Share of the weights that each step takes away, times the learning rate (decoupled, as Keras' SGD does)."""
    kernel_seed: tuple[int, ...] = (0, 1)
    """Seeds of the initial kernel; the order of the rows is one for all."""
    epochs: int = 10
    """Passes over the training rows."""
    batch_size: int = 256
    """Rows in one step."""
    momentum: float = 0.9
    """Share of the last step that the next one keeps."""
    seed: int = 0
    """Decides the order of the rows in every epoch, and the validation part."""

    def __post_init__(self) -> None:
        _require_finite(self)
        _require_at_least(1, epochs=self.epochs)
        _require_batch_size(self.batch_size)
        _require_some(learning_rate=self.learning_rate, weight_decay=self.weight_decay, kernel_seed=self.kernel_seed)
        _require_at_least(0, seed=self.seed, kernel_seed=min(self.kernel_seed))
        if not (min(self.learning_rate) > 0 and min(self.weight_decay) >= 0 and 0 <= self.momentum < 1):
            raise SpecError(
                "learning_rate is positive, weight_decay not negative and momentum in [0, 1), got "
                f"{self.learning_rate}, {self.weight_decay} and {self.momentum}"
            )


@dataclass(frozen=True)
class Logistic:
    """Multinomial logistic regression on standardised features, by L-BFGS along a path of L2 penalties."""

    l2: tuple[float, ...] = L2_PATH
    """Penalties: mean cross-entropy + l2 / 2 times the squared kernel (scikit-learn's C is 1 / (l2 n))."""
    max_iterations: int = 200
    """Of L-BFGS, for each penalty."""
    tolerance: float = 1e-4
    """L-BFGS ends when no component of the preconditioned gradient is larger."""
    seed: int = 0
    """Decides the validation part."""

    def __post_init__(self) -> None:
        _require_finite(self)
        _require_some(l2=self.l2)
        _require_positive(l2=min(self.l2), tolerance=self.tolerance)
        _require_at_least(0, seed=self.seed)
        _require_at_least(1, max_iterations=self.max_iterations)


@dataclass(frozen=True)
class Ridge:
    """Least squares with an L2 penalty on standardised features, in closed form."""

    l2: tuple[float, ...] = RIDGE_PATH
    """Penalties: mean squared error + l2 times the squared kernel."""
    seed: int = 0
    """Decides the validation part."""

    def __post_init__(self) -> None:
        _require_finite(self)
        _require_some(l2=self.l2)
        _require_positive(l2=min(self.l2))
        _require_at_least(0, seed=self.seed)


@dataclass(frozen=True)
class Mlp:
    """Hidden layers with dropout on standardised features; AdamW with warm-up and cosine, smoothed labels."""

    hidden: tuple[int, ...] = (1024,)
    """Widths of the hidden layers."""
    members: int = 1
    """Networks trained side by side from different initial weights; the head gives the mean of their logits."""
    dropout: float = 0.5
    """Share of the hidden units, and half that share of the features, that a step leaves out."""
    epochs: int = 20
    """Passes over the training rows."""
    batch_size: int = 512
    """Rows in one step; an eighth of the rows, but not below 8, where that is fewer."""
    learning_rate: float = 0.002
    """Step size of AdamW after the warm-up."""
    weight_decay: float = 0.05
    """Of AdamW, decoupled."""
    warmup: float = 0.1
    """Share of the steps in which the step size grows from zero; then it falls along a cosine."""
    label_smoothing: float = 0.1
    """Share of the target that is spread over all classes."""
    mixup: float = 0.0
    """Both parameters of the beta distribution by which pairs of rows are mixed; 0 for none."""
    patience: int = 6
    """Epochs without a better validation accuracy that end the training; the best epoch's weights are kept."""
    seed: int = 0
    """Decides initial weights, order, dropout, mixing, and the validation part."""

    def __post_init__(self) -> None:
        _require_finite(self)
        _require_some(hidden=self.hidden)
        _require_at_least(1, hidden=min(self.hidden), members=self.members, epochs=self.epochs)
        _require_at_least(1, patience=self.patience)
        _require_batch_size(self.batch_size)
        _require_at_least(0, seed=self.seed)
        _require_positive(learning_rate=self.learning_rate)
        shares = {"dropout": self.dropout, "warmup": self.warmup, "label_smoothing": self.label_smoothing}
        for name, share in shares.items():
            if not 0 <= share < 1:
                raise SpecError(f"{name} is in [0, 1), got {share}")
        if self.mixup < 0 or self.weight_decay < 0:
            raise SpecError(f"mixup and weight_decay are not negative, got {self.mixup} and {self.weight_decay}")


@dataclass(frozen=True)
class Knn:
    """Votes of the nearest training rows by cosine, weighted by exp(cosine / temperature)."""

    neighbours: tuple[int, ...] = (5, 10, 20, 50, 100)
    """How many rows vote."""
    temperature: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1)
    """Small ones let the nearest rows decide."""
    seed: int = 0
    """Decides the validation part."""

    def __post_init__(self) -> None:
        _require_finite(self)
        _require_some(neighbours=self.neighbours, temperature=self.temperature)
        _require_at_least(1, neighbours=min(self.neighbours))
        _require_positive(temperature=min(self.temperature))
        _require_at_least(0, seed=self.seed)


@dataclass(frozen=True)
class Best:
    """Ridge, logistic, knn, grid and several mlp, one after the other while time is left; validation chooses."""

    seconds: float = 600.0
    """Budget of the search; no recipe is begun after it. Refitting the chosen one comes on top."""
    candidates: int = 8
    """How many recipes are begun at most, in the order above."""
    seed: int = 0
    """Of every recipe."""

    def __post_init__(self) -> None:
        _require_finite(self)
        _require_positive(seconds=self.seconds)
        _require_at_least(1, candidates=self.candidates)
        _require_at_least(0, seed=self.seed)


Recipe = Reference | Grid | Logistic | Ridge | Mlp | Knn | Best
RecipeName = Literal["reference", "grid", "logistic", "ridge", "mlp", "knn", "best"]
RECIPES: dict[str, type[Recipe]] = {
    kind.__name__.lower(): kind for kind in (Reference, Grid, Logistic, Ridge, Mlp, Knn, Best)
}


def recipe_name(recipe: Recipe) -> str:
    """The word that `--recipe` takes."""
    return type(recipe).__name__.lower()


@dataclass(frozen=True)
class Selection:
    """Which rows of a cache a head is trained on, and how its settings are chosen on a part of them."""

    views: tuple[View, ...] = ()
    """Views of the cache to use; all of them if none is named. Evaluation averages their features."""
    classes: tuple[str, ...] = ()
    """Classes to tell apart, in this order; all of them if none is named."""
    validation_fraction: float = 0.1
    """Share of each class's training rows to choose settings on, where the cache has no val rows and there are settings
    to choose; of a class with two rows or more at least one, of a class with a single row none."""
    class_weight: Literal["none", "balanced"] = "none"
    """`balanced` weighs every row by the inverse of its class's frequency."""
    calibrate: bool = False
    """Fold the temperature that validation rows ask for into the head."""
    allow_missing_classes: bool = False
    """Also train where test or val rows have a class that the training rows lack, or test rows are of one class."""

    def __post_init__(self) -> None:
        if not 0 < self.validation_fraction < 1:
            raise SpecError(f"validation_fraction is between 0 and 1, got {self.validation_fraction}")
        if len(self.classes) == 1 or len(set(self.classes)) != len(self.classes):
            raise SpecError(f"two or more different classes are needed, got {' '.join(self.classes)}")
        if not set(self.views) <= set(VIEWS) or len(set(self.views)) != len(self.views):
            raise SpecError(f"views are some of {', '.join(VIEWS)}, each once; got {' '.join(self.views)}")


def _require_at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise SpecError(f"{name} is at least {least}, got {value}")


def _require_batch_size(batch_size: int) -> None:
    if not 1 <= batch_size <= MAX_BATCH_SIZE:
        raise SpecError(f"batch_size is 1 to {MAX_BATCH_SIZE:,}, got {batch_size}")


def _require_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise SpecError(f"{name} is positive, got {value}")


def _require_finite(recipe: Any) -> None:
    for name, value in vars(recipe).items():
        values = value if isinstance(value, tuple) else (value,)
        if not all(math.isfinite(each) for each in values if isinstance(each, float)):
            raise SpecError(f"{name} is finite, got {' '.join(map(str, values))}")


def _require_some(**values: tuple[Any, ...]) -> None:
    for name, value in values.items():
        if not value:
            raise SpecError(f"{name} needs one value at least, got none")


@dataclass(frozen=True)
class Shots:
    """A study of how many images a recipe needs."""

    shots: tuple[int, ...] = ()
    """Numbers of training images of each class: mean and spread of the accuracy for each, instead of one head."""
    repeats: int = 5
    """How many different draws of so many images."""

    def __post_init__(self) -> None:
        _require_at_least(1, repeats=self.repeats, **({"shots": min(self.shots)} if self.shots else {}))


ALONE: dict[type[Recipe], dict[str, Any]] = {
    Reference: {},
    Grid: {"learning_rate": (0.01,), "weight_decay": (0.0,), "kernel_seed": (0,)},
    Logistic: {"l2": (0.1,)},
    Ridge: {"l2": (1.0,)},
    Mlp: {},
    Knn: {"neighbours": (5,), "temperature": (0.05,)},
}


def with_one_setting(recipe: Recipe) -> Recipe:
    """The recipe with one setting, for rows too few to choose on.

    Candidates that are one already stay; the others' numbers are not tuned to any dataset: strong penalties, and few
    neighbours. `Best` has no such setting.
    """
    candidates = ALONE[type(recipe)]
    return replace(recipe, **{name: one for name, one in candidates.items() if len(getattr(recipe, name)) > 1})
