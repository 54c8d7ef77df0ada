"""The error of an estimator: scikit-learn expects a ValueError where an argument is wrong."""

import contextlib
from collections.abc import Iterator

from tfl.errors import BackboneError, DatasetError, RunError, SpecError, TflError


class EstimatorError(TflError, ValueError):
    """A parameter, an image or a label does not suit an estimator."""


@contextlib.contextmanager
def raise_value_errors() -> Iterator[None]:
    """Raise errors that an argument caused as `EstimatorError`, with the same message."""
    try:
        yield
    except EstimatorError:
        raise
    except (BackboneError, DatasetError, RunError, SpecError) as error:
        raise EstimatorError(*error.args) from error
