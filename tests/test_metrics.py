import json
import math
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
    top_k_accuracy_score,
)

from tfl.files.codec import encode_record
from tfl.metrics import (
    fit_decision_threshold,
    fit_temperature,
    log_softmax,
    mcnemar,
    measure,
    measure_at,
    measure_blocks,
    wilson_interval,
)
from tfl.reports.metrics import format_metrics
from tfl.runs.calibration import make_record


def encode(metrics, class_names):
    """Metrics as `metrics.json` has them."""
    return encode_record(make_record(metrics, class_names))


def test_measure():
    logits = np.array([[2, 0, 0], [0, 3, 0], [0, 1, 0], [5, 0, 4]], np.float32)
    metrics = measure(logits, np.array([0, 1, 2, 2]))
    assert metrics.accuracy == 0.5
    assert metrics.confusion.tolist() == [[1, 0, 0], [0, 1, 0], [1, 1, 0]]
    np.testing.assert_allclose(metrics.per_class(), [1, 1, 0])
    losses = [np.log(np.exp(row).sum()) - row[label] for row, label in zip(logits, [0, 1, 2, 2], strict=True)]
    assert metrics.loss == pytest.approx(np.mean(losses), rel=1e-6)


def random_rows(num_rows, num_classes, seed=0):
    """Logits of few values, so that many are equal, and labels of every class that the larger logits favour."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num_rows) % num_classes
    logits = rng.integers(-3, 4, (num_rows, num_classes)).astype(np.float32) / 2
    logits[np.arange(num_rows), labels] += 0.5
    return logits, labels


@pytest.mark.parametrize("num_classes", [2, 3, 6, 10])
def test_metrics_are_scikit_learns(num_classes):
    logits, labels = random_rows(200, num_classes)
    metrics, predicted = measure(logits, labels), logits.argmax(axis=1)
    assert metrics.accuracy == accuracy_score(labels, predicted)
    assert metrics.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, predicted), rel=1e-12)
    assert metrics.loss == pytest.approx(log_loss(labels, np.exp(log_softmax(logits))), rel=1e-12)
    if num_classes > 5:  # of equal scores scikit-learn takes the last first, and we the first, as argmax does
        theirs = top_k_accuracy_score(num_classes - 1 - labels, logits[:, ::-1], k=5, labels=np.arange(num_classes))
        assert metrics.top_5_accuracy == theirs
    else:
        assert metrics.top_5_accuracy is None


binary_rows = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=60).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


def split(rows):
    """Logits `(n, 2)` whose log odds are the first of each pair, and its second as the label."""
    log_odds, labels = (np.array(column) for column in zip(*rows, strict=True))
    return np.stack([np.ones(len(rows)), 1 + log_odds], axis=1).astype(np.float32), labels.astype(np.int64)


@given(binary_rows)
def test_areas_under_curves_are_scikit_learns(rows):
    logits, labels = split(rows)
    metrics, scores = measure(logits, labels), logits[:, 1] - logits[:, 0]
    assert metrics.roc_auc == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert metrics.average_precision == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


def test_areas_without_ties_and_beyond_the_float_nearest_to_one():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 500)
    scores = 100 * (rng.normal(size=500) + labels)
    metrics = measure(np.stack([np.zeros(500), scores], axis=1), labels)
    assert metrics.roc_auc == pytest.approx(roc_auc_score(labels, scores), rel=1e-12)
    assert metrics.average_precision == pytest.approx(average_precision_score(labels, scores), rel=1e-12)


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_areas_need_rows_of_both_labels(labels):
    plain = encode(measure(np.zeros((3, 2), np.float32), np.array(labels)), ("no", "yes"))
    assert plain["roc_auc"] is None
    assert plain["average_precision"] is None


def test_more_classes_have_no_areas():
    metrics = measure(np.eye(3, dtype=np.float32), np.arange(3))
    assert metrics.roc_auc is None
    assert metrics.average_precision is None
    assert not {"roc_auc", "average_precision"} & set(encode(metrics, ("a", "b", "c")))


def test_calibration_error_by_hand():
    """Largest probabilities 0.9, 0.91 (one bin, one of two right), 0.55 (right), 0.8 (at a bin's upper edge; wrong)."""
    probabilities = np.array([0.9, 0.09, 0.55, 0.2])
    logits = np.log(np.stack([probabilities, 1 - probabilities], axis=1))
    metrics = measure(logits, np.array([0, 0, 0, 0]))
    assert metrics.calibration_bins[:, 0].tolist() == [0] * 8 + [1, 0, 0, 1, 0, 2, 0]
    expected = (abs(1 - 1.81) + abs(1 - 0.55) + abs(0 - 0.8)) / 4
    assert metrics.calibration_error == pytest.approx(expected, rel=1e-12)


def test_calibration_error_of_certainty():
    logits = np.array([[1e4, 0, 0]] * 4)
    assert measure(logits, np.array([0, 0, 0, 0])).calibration_error == 0
    assert measure(logits, np.array([0, 1, 1, 2])).calibration_error == 0.75


@pytest.mark.parametrize("num_classes", [2, 4, 8])
@pytest.mark.parametrize("block_rows", [1, 7, 99, 100])
def test_blocks_are_measured_as_the_whole(block_rows, num_classes):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(100, num_classes)).astype(np.float32), rng.integers(0, num_classes, 100)
    blocks = ((logits[i : i + block_rows], labels[i : i + block_rows]) for i in range(0, 100, block_rows))
    names = tuple(map(str, range(num_classes)))
    ours, whole = (encode(metrics, names) for metrics in (measure_blocks(blocks), measure(logits, labels)))
    for key in ("loss", "calibration_error"):  # sums of floats, in another order
        assert ours.pop(key) == pytest.approx(whole.pop(key), rel=1e-12)
    assert ours == whole
    assert whole["num_rows"] == 100


def test_class_without_rows_has_no_accuracy():
    plain = encode(measure(np.eye(3, dtype=np.float32)[:2], np.array([0, 1])), ("a", "b", "c"))
    assert plain["accuracy_per_class"] == {"a": 1.0, "b": 1.0, "c": None}
    assert plain["interval_95_per_class"] == {"a": [*wilson_interval(1, 1)], "b": [*wilson_interval(1, 1)], "c": None}
    assert plain["balanced_accuracy"] == 1.0


@pytest.mark.parametrize("num_classes", [2, 3, 6])
def test_plain_values_are_json(num_classes):
    plain = encode(measure(*random_rows(30, num_classes)), tuple("abcdef"[:num_classes]))
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


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


def drawn_rows(num_rows, num_classes):
    """Calibrated logits: each row's label is drawn with their own softmax."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=(num_rows, num_classes))
    return logits, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


@pytest.mark.parametrize("scale", [0.05, 0.5, 1, 3, 40])
def test_temperature_recovers_a_scaling(scale):
    logits, labels = drawn_rows(20_000, 5)
    assert fit_temperature((scale * logits).astype(np.float32), labels) == pytest.approx(scale, rel=0.03)


def test_temperature_has_the_least_loss_and_calibrates():
    logits, labels = drawn_rows(2_000, 5)
    temperature = fit_temperature(3 * logits, labels)
    losses = [measure(3 * logits / (factor * temperature), labels).loss for factor in (0.99, 1, 1.01)]
    assert losses[1] == min(losses)
    before, after = (measure(x, labels).calibration_error for x in (3 * logits, 3 * logits / temperature))
    assert after < 0.2 * before


def test_temperature_of_rows_that_are_all_right_leaves_no_loss():
    temperature = fit_temperature(np.eye(3), np.arange(3))
    assert 1e-3 <= temperature < 0.05
    assert measure(np.eye(3) / temperature, np.arange(3)).loss < 1e-12


def imbalanced_rows(num_positive, seed):
    """Twenty rows of label 0 to one of label 1, and the log odds that Bayes gives two unit normals 2 apart."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [20 * num_positive, num_positive])
    log_odds = 2 * (rng.normal(size=len(labels)) + 2 * labels) - 2 - np.log(20)
    return np.stack([np.zeros(len(labels)), log_odds], axis=1), labels


def test_threshold_raises_balanced_accuracy_of_imbalanced_rows():
    threshold = fit_decision_threshold(*imbalanced_rows(500, seed=0))
    assert threshold == pytest.approx(1 / 21, abs=0.02)  # where both classes' densities are equal
    at_half, at_threshold = (measure_at(t, *imbalanced_rows(500, seed=1)) for t in (0.5, threshold))
    assert at_half.balanced_accuracy < 0.72
    assert at_threshold.balanced_accuracy > 0.82  # the best is 0.841
    assert at_threshold.recall > at_half.recall


def as_logits(probabilities):
    return np.log(np.stack([1 - np.array(probabilities), probabilities], axis=1))


def test_threshold_is_midway_and_of_equally_good_ones_the_nearest_to_half():
    assert fit_decision_threshold(as_logits([0.1, 0.3, 0.7, 0.8]), np.array([0, 0, 1, 1])) == pytest.approx(0.5)
    assert fit_decision_threshold(as_logits([0.1, 0.2, 0.3]), np.array([0, 0, 1])) == pytest.approx(0.25)
    # Recall and specificity are 0.5 and 1 at 0.75, 1 and 0.5 at 0.2.
    assert fit_decision_threshold(as_logits([0.1, 0.3, 0.7, 0.8]), np.array([0, 1, 0, 1])) == pytest.approx(0.75)


def test_threshold_without_rows_of_a_label_is_half():
    assert fit_decision_threshold(as_logits([0.1, 0.2]), np.array([0, 0])) == 0.5
    assert fit_decision_threshold(as_logits([0.8, 0.9]), np.array([1, 1])) == 0.5


def test_threshold_of_scores_next_to_each_other_and_at_the_ends():
    logits = np.array([[0, -1e4], [0, 1e4], [0, 1e-16], [0, 2.3e-16]])
    labels = np.array([0, 1, 0, 1])
    low, high = expit(logits[2:, 1])
    assert np.nextafter(low, 1) == high
    assert measure_at(fit_decision_threshold(logits, labels), logits, labels).accuracy == 1


@given(binary_rows)
def test_no_threshold_is_better(rows):
    logits, labels = split(rows)
    ours = measure_at(fit_decision_threshold(logits, labels), logits, labels).balanced_accuracy
    scores = expit(logits[:, 1].astype(np.float64) - logits[:, 0])
    others = [measure_at(score, logits, labels).balanced_accuracy for score in scores]
    assert ours == pytest.approx(max([0.5, *others]), abs=1e-12)


@given(binary_rows, st.floats(0, 1))
def test_at_a_threshold_metrics_are_scikit_learns(rows, threshold):
    logits, labels = split(rows)
    said = expit(logits[:, 1].astype(np.float64) - logits[:, 0]) >= threshold
    theirs = {
        "threshold": threshold,
        "accuracy": accuracy_score(labels, said),
        "balanced_accuracy": balanced_accuracy_score(labels, said),
        "precision": precision_score(labels, said) if said.any() else None,
        "recall": recall_score(labels, said),
        "f1": f1_score(labels, said),
    }
    ours = asdict(measure_at(threshold, logits, labels))
    undefined = {name for name, value in ours.items() if value is None}
    assert undefined == (set() if said.any() else {"precision"})
    assert {name: ours[name] for name in set(ours) - undefined} == pytest.approx(
        {name: theirs[name] for name in set(theirs) - undefined}, abs=1e-12
    )


def test_at_a_threshold_undefined_shares_are_none():
    """0.00 % would be the worst there is; of a class without rows nothing is known."""
    one_label = measure_at(0.5, as_logits([0.1, 0.9]), np.array([0, 0]))
    assert asdict(one_label) == {
        "threshold": 0.5,
        "accuracy": 0.5,
        "balanced_accuracy": 0.5,
        "precision": None,
        "recall": None,
        "f1": None,
    }
    none_said = measure_at(0.95, as_logits([0.1, 0.9]), np.array([0, 1]))
    assert (none_said.precision, none_said.recall, none_said.f1) == (None, 0.0, 0.0)
    all_wrong = measure_at(0.5, as_logits([0.9, 0.1]), np.array([0, 1]))
    assert (all_wrong.precision, all_wrong.recall, all_wrong.f1) == (0.0, 0.0, 0.0)
    no_rows = measure_at(0.5, np.zeros((0, 2), np.float32), np.zeros(0, int))
    assert asdict(no_rows) == {
        "threshold": 0.5,
        **dict.fromkeys(("accuracy", "balanced_accuracy", "precision", "recall", "f1")),
    }


def test_of_no_rows_nothing_is_defined():
    metrics = measure(np.zeros((0, 6), np.float32), np.zeros(0, int))
    plain = encode(metrics, tuple("abcdef"))
    undefined = {"accuracy", "accuracy_interval_95", "loss", "balanced_accuracy", "top_5_accuracy", "calibration_error"}
    assert {name for name, value in plain.items() if value is None} == undefined
    assert set(plain["accuracy_per_class"].values()) == {None}
    assert json.loads(json.dumps(plain, allow_nan=False))["num_rows"] == 0
    shown = list(format_metrics(make_record(metrics, tuple("abcdef"))))
    assert shown[0] == "test accuracy undefined of 0 (no rows)"
    assert shown[-1] == "loss undefined, calibration error undefined"


def test_a_loss_of_nothing_is_not_negative():
    """Logits so far apart that the right class has all of the probability."""
    whole = measure(np.array([[1e4, 0.0], [0.0, 1e4]], np.float32), np.array([0, 1]))
    for metrics in (whole, whole + whole):
        assert math.copysign(1, metrics.loss) == 1
        assert metrics.loss == 0
    assert "loss 0.0000" in "\n".join(format_metrics(make_record(whole, ("a", "b"))))


def test_undefined_is_said_in_words():
    logits, labels = as_logits([0.1, 0.9]), np.array([0, 0])
    at_threshold = measure_at(0.5, logits, labels)
    metrics = replace(make_record(measure(logits, labels), ("cat", "dog")), at_threshold=at_threshold)
    shown = list(format_metrics(metrics))
    assert shown[1:3] == ["  cat   50.00%", "  dog  no rows"]
    assert shown[3].startswith("balanced accuracy 50.00%, ROC AUC undefined, average precision undefined, loss ")
    assert shown[4] == (
        "at threshold 0.500: accuracy 50.00%, balanced accuracy 50.00%, "
        "precision undefined, recall undefined, f1 undefined"
    )


def paired(only_a, only_b, num_both, num_neither):
    counts = [only_a, only_b, num_both, num_neither]
    return np.repeat([True, False, True, False], counts), np.repeat([False, True, True, False], counts)


def test_mcnemar_as_published():
    """Bentur et al. 2009 (1, 7, 1 and 12 of 21 children) in Fagerland et al. 2013, doi:10.1186/1471-2288-13-91."""
    result = mcnemar(*paired(1, 7, 1, 12))
    assert asdict(result) == {
        "only_a": 1,
        "only_b": 7,
        "difference": pytest.approx(-6 / 21),
        "p_value": pytest.approx(2 * (1 + 8) / 2**8, rel=1e-12),  # 0.0703
    }


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_exact_binomial_test(only_a, only_b):
    result = mcnemar(*paired(only_a, only_b, 5, 5))
    expected = binomtest(only_a, only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0
    assert result.p_value == pytest.approx(expected, rel=1e-9)
    assert mcnemar(*paired(only_b, only_a, 5, 5)).p_value == result.p_value


def test_mcnemar_of_many_rows():
    p_values = [mcnemar(*paired(5_000 + extra, 5_000 - extra, 0, 0)).p_value for extra in (0, 50, 100, 200, 4_000)]
    assert p_values[0] == 1
    assert all(higher > lower for higher, lower in pairwise(p_values))
    assert p_values[2] == pytest.approx(binomtest(5_100, 10_000).pvalue, rel=1e-9)


def test_what_is_given_is_not_changed():
    logits, labels = random_rows(40, 2)
    for array in (logits, labels):
        array.flags.writeable = False
    measure_blocks([(logits, labels), (logits, labels)])
    fit_temperature(logits, labels)
    measure_at(fit_decision_threshold(logits, labels), logits, labels)
