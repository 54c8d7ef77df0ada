"""A search over recipes with `TransferClassifier` on scikit-learn's digits: seconds, and accuracy of the choice."""

from pathlib import Path
from typing import Any

import numpy as np
import tyro
from measure import seconds_of, tell
from record import RESULTS, new_result, write_result

QUESTION = "What a search over recipes costs when every image is computed once, and how good its choice is"
LIBRARIES = ("keras", "tensorflow", "jax", "torch", "openvino", "scipy", "numpy", "scikit-learn")
GRID = {"recipe": ["logistic", "ridge"], "recipe__l2": [0.001, 0.01, 0.1, 1.0]}
WHITE = 16  # of the digits' pixels


def main(
    image_size: int = 64, backbone: str = "resnet50", folds: int = 3, out: Path = RESULTS / "estimators.json"
) -> None:
    """Search on four fifths of the digits; measure the choice once on the others, beside a classifier of pixels.

    Args:
      image_size: Height and width that the digits are resized to.
      backbone: The frozen network.
      folds: Of the cross-validation.
      out: The JSON file to write.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    from tfl.sklearn import TransferClassifier

    images, labels, is_test = read_digits()
    classifier = TransferClassifier(backbone=backbone, image_size=image_size)
    search = GridSearchCV(classifier, GRID, cv=folds, error_score="raise")
    train = images[~is_test], labels[~is_test]
    first = seconds_of(lambda: classifier.fit(*train))
    tell(f"first fit: {first:.1f} s")
    searched = seconds_of(lambda: search.fit(*train))
    tell(f"search: {searched:.1f} s, {search.best_params_}")
    on_pixels = LogisticRegression(max_iter=1000).fit(to_rows(train[0]), train[1])
    accuracy = {
        "chosen by the search": search.score(images[is_test], labels[is_test]),
        "scikit-learn's logistic regression on pixels": on_pixels.score(to_rows(images[is_test]), labels[is_test]),
    }
    tell(f"test accuracy: {accuracy}")
    results = {
        "seconds": {"first fit": [first], "search": [searched]},
        "accuracy": {way: [float(share)] for way, share in accuracy.items()},
    }
    findings = {
        "interval": {way: find_interval(share, int(is_test.sum())) for way, share in accuracy.items()},
        "chosen": search.best_params_,
        "fits": folds * len(search.cv_results_["params"]) + 1,
        "train_images": len(train[0]),
        "test_images": int(is_test.sum()),
    }
    settings = {"backbone": backbone, "image_size": image_size, "folds": folds, "grid": GRID}
    write_result(out, new_result(QUESTION, results, LIBRARIES, settings=settings, findings=findings))


def read_digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return grey images in 0..1 `(n, 8, 8)`, their labels `(n,)`, and which are for the test, every fifth."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    return digits.images / WHITE, digits.target, np.arange(len(digits.target)) % 5 == 0


def to_rows(images: np.ndarray) -> np.ndarray:
    """Return images as rows of pixels, `(n, h * w)`."""
    return images.reshape(len(images), -1)


def find_interval(share: float, total: int) -> list[float]:
    """Return the 95 % interval of an accuracy."""
    from tfl.metrics.significance import wilson_interval

    return list(wilson_interval(round(share * total), total))


if __name__ == "__main__":
    tyro.cli(main)
