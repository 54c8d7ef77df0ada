import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfl.metrics import log_softmax, measure, measure_blocks, wilson_interval


def test_measure():
    logits = np.array([[2, 0, 0], [0, 3, 0], [0, 1, 0], [5, 0, 4]], np.float32)
    metrics = measure(logits, np.array([0, 1, 2, 2]))
    assert metrics.accuracy == 0.5
    assert metrics.confusion.tolist() == [[1, 0, 0], [0, 1, 0], [1, 1, 0]]
    np.testing.assert_allclose(metrics.per_class(), [1, 1, 0])
    losses = [np.log(np.exp(row).sum()) - row[label] for row, label in zip(logits, [0, 1, 2, 2], strict=True)]
    assert metrics.loss == pytest.approx(np.mean(losses), rel=1e-6)


@pytest.mark.parametrize("block_rows", [1, 7, 99, 100])
def test_blocks_are_measured_as_the_whole(block_rows):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(100, 4)).astype(np.float32), rng.integers(0, 4, 100)
    blocks = ((logits[i : i + block_rows], labels[i : i + block_rows]) for i in range(0, 100, block_rows))
    ours, whole = measure_blocks(blocks), measure(logits, labels)
    np.testing.assert_array_equal(ours.confusion, whole.confusion)
    assert (ours.num_rows, ours.accuracy, ours.interval) == (100, whole.accuracy, whole.interval)
    assert ours.loss == pytest.approx(whole.loss, rel=1e-12)


def test_class_without_rows_has_no_accuracy():
    plain = measure(np.eye(3, dtype=np.float32)[:2], np.array([0, 1])).to_dict(("a", "b", "c"))
    assert plain["accuracy_per_class"] == {"a": 1.0, "b": 1.0, "c": None}


def test_wilson_interval_as_published():
    """Newcombe 1998, Statistics in Medicine 17, table I, method 3."""
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0000, 0.1611), abs=5e-5)
    assert wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_holds_the_share_and_stays_in_range(counts):
    correct, total = counts
    low, high = wilson_interval(correct, total)
    assert 0 <= low <= correct / total + 1e-12
    assert correct / total - 1e-12 <= high <= 1


def test_log_softmax_of_large_logits():
    np.testing.assert_allclose(log_softmax(np.array([[1e4, 0.0]])), [[0, -1e4]])
