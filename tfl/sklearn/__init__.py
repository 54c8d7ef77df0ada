"""Estimators with the interface of scikit-learn: images in, features or classes out.

    from tfl.sklearn import TransferClassifier

    classifier = TransferClassifier("logistic", backbone="resnet50").fit(images, labels)
    classifier.predict(["photo.jpg"])

`FeatureExtractor` is the frozen backbone alone, for a `Pipeline`. Features of images that were seen
before are not computed again, so that a search over recipes computes every image once. Importing
this package imports scikit-learn, and no framework.
"""

from tfl.machine.packages import require_package

require_package("sklearn", "sklearn")

from tfl.sklearn.classifier import TransferClassifier  # noqa: E402 -- the line above says what to install
from tfl.sklearn.errors import EstimatorError  # noqa: E402
from tfl.sklearn.extractor import FeatureExtractor  # noqa: E402
from tfl.sklearn.memory import forget_features  # noqa: E402

__all__ = ["EstimatorError", "FeatureExtractor", "TransferClassifier", "forget_features"]
