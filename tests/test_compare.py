"""Ours against the reference, on tiny networks where that will do; the whole way on real images and weights."""

import json
import logging

import numpy as np
import pytest

from tfl.cache import open_cache
from tfl.comparison import compare
from tfl.comparison.lockstep import Turn
from tfl.comparison.preparation import list_obstacles, prepare
from tfl.comparison.reference.port import port_weights
from tfl.comparison.reference.setup import Start
from tfl.comparison.timing import SecondsPerImage, StageTiming, compare_turns, summarize_stages
from tfl.errors import CacheError, CompareError, SpecError
from tfl.extraction.precompute import precompute
from tfl.files.codec import encode_record
from tfl.heads import Reference
from tfl.heads.examples import InMemory
from tfl.heads.model import compute_logits
from tfl.heads.solvers.reference import draw_randomness
from tfl.reports.comparison import format_findings
from tfl.specs import DatasetSpec, FeatureSpec, Settings

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    """PyTorch's threads wait for each other busily: beside other tests, two are many times slower than one."""
    monkeypatch.setattr("tfl.engine.count_threads", lambda: 1)


@pytest.fixture
def tiny_cache(tiny_backbone, features, dataset, settings):
    return precompute(features, dataset, settings)


@pytest.mark.torch
def test_training_parity():
    """The same features, start and order: Keras' and PyTorch's loss curves, and heads, are the same."""
    import torch

    from tfl.comparison.reference.head import fit

    torch.set_num_threads(1)
    recipe, labels = Reference(epochs=10, batch_size=16, learning_rate=0.01), RNG.integers(0, 3, 100)
    features = RNG.normal(size=(100, 8)).astype(np.float32) + np.eye(3, 8, dtype=np.float32)[labels]
    start = Start(*draw_randomness(recipe, 100, 8, 3))
    trainer, theirs = fit(torch.from_numpy(features), torch.from_numpy(labels), start, recipe)
    model, history = recipe.fit(InMemory(features, labels), 3)
    np.testing.assert_allclose([epoch.loss for epoch in history], theirs, rtol=1e-5)
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(kernel.T, trainer.layer.weight.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(bias, trainer.layer.bias.detach().numpy(), atol=1e-5)
    logits = compute_logits(model, features)
    correct = trainer.count_correct(torch.from_numpy(features), torch.from_numpy(labels))
    assert correct == (logits.argmax(axis=1) == labels).sum()


def test_costs_are_of_measured_seconds():
    def turns(stage, *seconds, num_images=10):
        return [Turn(stage, num_images, each, 1) for each in seconds]

    cached = [
        *turns("start-up", 100.0),
        *turns("extract", 10.0, 20.0, 30.0),
        *turns("keep", 4.0, num_images=0),
        *turns("fit", 1.0, 3.0, num_images=16),
    ]
    uncached = [*turns("start-up", 50.0), *turns("train", 40.0, 40.0), *turns("test", 10.0)]
    assert summarize_stages(cached)["extract"] == StageTiming(
        turns=3, images=30, seconds=60.0, median=2.0, least=1.0, largest=3.0
    )
    assert summarize_stages(cached)["keep"].median is None
    once, each = SecondsPerImage.measure(summarize_stages(cached)), SecondsPerImage.measure(summarize_stages(uncached))
    assert once == SecondsPerImage(once=2.0 + 4 / 40, each_epoch=0.125, at_end=0.0)
    assert each == SecondsPerImage(once=0.0, each_epoch=4.0, at_end=1.0)
    assert once.count_all(100, 20, 10) == pytest.approx(2.1 * 120 + 0.125 * 100 * 10)
    epochs = once.find_break_even(each, 100, 20)
    assert once.count_all(100, 20, epochs) == pytest.approx(each.count_all(100, 20, epochs))
    assert each.find_break_even(once, 100, 20) == float("inf")
    assert compare_turns(cached, cached[:1] + turns("extract", 5.0, 5.0, 5.0), "extract").median == 4.0
    assert compare_turns(cached, [], "score") is None


def test_a_port_of_other_tensors_is_refused():
    with pytest.raises(ValueError, match="'conv1_conv/kernel' is missing"):
        port_weights({"conv1_bn/gamma": np.ones(3)})


def test_what_the_reference_cannot_do_is_said(tiny_cache):
    (reason,) = list_obstacles(open_cache(tiny_cache))
    assert reason.startswith("pixels, features, and the programs that need images: the cache's backbone is tiny")
    assert reason.endswith("training on the cached features is compared")


@pytest.mark.torch
def test_of_another_backbone_training_is_compared(tiny_cache, caplog, tmp_path):
    with caplog.at_level(logging.WARNING):
        found = compare.compare(tiny_cache, 100, Reference(epochs=2), out=tmp_path / "none.png")
    assert "not compared: pixels, features" in caplog.text
    assert "none.png is not drawn" in caplog.text
    assert "were asked for" not in caplog.text, "no images are compared"
    assert found.training.largest_relative_difference < 1e-4
    assert {row.form for row in found.accuracy} == {"ours", "fair-cached"}
    assert len({row.accuracy for row in found.accuracy}) == 1
    assert found.slice is None
    assert found.ratios["extract"] is None
    text = "\n".join(format_findings(found))
    assert "not compared: pixels" in text
    assert "extracting" not in text
    assert not (tmp_path / "none.png").exists()


def test_fewer_images_than_asked_for_are_said(tiny_cache, caplog):
    compare._warn_of_fewer(open_cache(tiny_cache), 50)
    assert [record.getMessage() for record in caplog.records] == [
        "50 test images were asked for, and the cache has 40: those are compared"
    ]


def test_without_torch_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CompareError, match=r"torch is not installed: pip install '.\[torch\]'"):
        compare.compare(tmp_path / "cache.h5")


@pytest.mark.torch
def test_wrong_numbers(tiny_cache):
    with pytest.raises(SpecError, match="--images is at least 1, got 0"):
        compare.compare(tiny_cache, 0)


def test_test_rows_are_needed(tiny_backbone, features, dataset, settings, tmp_path):
    path = precompute(features, DatasetSpec(dataset.dataset, test_split=""), settings)
    with pytest.raises(CacheError, match="no test rows; precompute again with --test-split"):
        prepare(open_cache(path), tmp_path, 0, Reference(), "keras")


@pytest.mark.real
@pytest.mark.torch
def test_the_whole_comparison_on_real_images(tmp_path, monkeypatch):
    """Features within 1e-4 and loss curves within 1e-4, in the processes that the command starts."""

    def prepared(cache, folder, *rest):
        (folder / "way").write_text("eager")  # compiling takes half a minute
        return prepare(cache, folder, *rest)

    monkeypatch.setattr(compare, "prepare", prepared)
    monkeypatch.setattr("tfl.comparison.preparation.MIN_EXTRACTED", 24)
    dataset = DatasetSpec(train_split="train[:60]", test_split="test[:40]")
    cache = precompute(FeatureSpec(image_size=64), dataset, Settings(cache_dir=tmp_path))
    found = compare.compare(cache, 16, Reference(epochs=2, batch_size=8), out=tmp_path / "plot.png")
    assert found.pixels.largest_difference < 1e-3
    assert 0 < found.pixels.resized_by_pil < 2
    assert found.features.same_pixels.num_images == 24
    assert found.features.same_pixels.largest_difference < 1e-4
    assert found.features.from_uint8.num_images == 48
    assert found.features.from_uint8.largest_difference < 1e-4
    assert found.cache_difference < 1e-4
    assert found.training.largest_relative_difference < 1e-4
    of_slice = {row.form: row.accuracy for row in found.accuracy if row.train == 16 and not row.mode}
    assert set(of_slice) == {"ours", "fair-cached", "fair"}
    assert len(set(of_slice.values())) == 1, "the same features, the same head"
    assert [row.mode for row in found.accuracy if row.form == "article"] == ["train", "eval"]
    seconds = found.seconds
    assert seconds.times_ours["article"] > seconds.times_ours["fair"] > 1
    assert [len(by_epoch) for by_epoch in seconds.by_epoch.values()] == [3] * 4
    assert all(found.peak_bytes.values())
    assert (tmp_path / "plot.png").stat().st_size > 10_000
    assert json.loads(json.dumps(encode_record(found)))["epochs"] == 2
    text = "\n".join(format_findings(found))
    for words in ("PyTorch, the article's (after eval())", "times ours", "extrapolated", "peak memory"):
        assert words in text
