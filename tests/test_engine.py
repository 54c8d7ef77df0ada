import os
import resource
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import WITHOUT_TENSORFLOW

from tfl import backbone, engine

RNG = np.random.default_rng(0)
IMAGES = list(RNG.integers(0, 255, (7, 10, 9, 3), dtype=np.uint8))
MIXED = [RNG.integers(0, 255, (8 + i, 15 - i, 3), dtype=np.uint8) for i in range(5)]


@pytest.fixture
def built(tiny_backbone, features):
    return backbone.build(features)


def test_agrees_with_keras(built):
    expected = built.model.predict(np.stack(IMAGES), verbose=0)
    np.testing.assert_allclose(engine.Forward(built, 8).features(IMAGES), expected, rtol=1e-4, atol=1e-6)


def test_batch_size_and_position_do_not_count(built):
    whole = engine.Forward(built, 7).features(IMAGES)
    singly = np.concatenate([engine.Forward(built, 4).features([image]) for image in IMAGES])
    np.testing.assert_allclose(whole, singly, rtol=1e-4, atol=1e-6)


def test_images_of_differing_sizes(built):
    expected = np.concatenate([built.model.predict(image[None], verbose=0) for image in MIXED])
    np.testing.assert_allclose(engine.Forward(built, 8).features(MIXED), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("images", [IMAGES, MIXED], ids=["one size", "differing sizes"])
def test_views(built, images):
    forward = engine.Forward(built, 8)
    for view in ("hflip", "original", "crop2"):
        pixels = np.concatenate([np.asarray(built.presented(view)(image[None])) for image in images])
        expected = built.network.predict(pixels, verbose=0)
        np.testing.assert_allclose(forward.features(images, view), expected, rtol=1e-4, atol=1e-6)


def test_images_are_not_written_into(built):
    for image in IMAGES:
        image.flags.writeable = False
    before = np.stack(IMAGES)
    engine.Forward(built, 8).features(IMAGES)
    np.testing.assert_array_equal(np.stack(IMAGES), before)


def test_exact_float32_is_put_back():
    import tensorflow as tf

    before = tf.config.experimental.tensor_float_32_execution_enabled()
    with engine.exact_float32():
        assert not tf.config.experimental.tensor_float_32_execution_enabled()
    assert tf.config.experimental.tensor_float_32_execution_enabled() == before


PRINT_FEATURES = """
sys.path.insert(0, {tests!r})
import keras, numpy as np, tiny
from tfl import backbone, engine
from tfl.spec import FeatureSpec
keras.applications.Tiny = tiny.Tiny
built = backbone.build(FeatureSpec(backbone="tiny", weights="random", image_size=12))
images = list(np.random.default_rng(0).integers(0, 255, (7, 10, 9, 3), dtype=np.uint8))
np.save({out!r}, engine.Forward(built, 8).features(images))
print(built.spec.weights)
"""


@pytest.mark.parametrize("backend", ["jax", pytest.param("torch", marks=pytest.mark.torch)])
def test_other_backends_agree(built, backend, tmp_path):
    """In a process without TensorFlow: the same weights, and features within 1e-4."""
    pytest.importorskip(backend)
    program = WITHOUT_TENSORFLOW + PRINT_FEATURES.format(
        tests=str(Path(__file__).parent), out=str(tmp_path / "features.npy")
    )
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == built.spec.weights
    ours = engine.Forward(built, 8).features(IMAGES)
    np.testing.assert_allclose(np.load(tmp_path / "features.npy"), ours, rtol=1e-4, atol=1e-5)


def test_description_names_what_decides_the_last_bits():
    description = engine.describe(8)
    assert description["engine"] == keras.backend.backend()
    assert description["batch_size"] == 8
    assert description["versions"]["keras"] == keras.__version__


MEMINFO = "MemTotal:  2000 kB\nMemFree:  10 kB\nMemAvailable:  1000 kB\n"
NO_LIMIT_V1 = "9223372036854771712\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, 1000 * 1024, id="no cgroup"),
        pytest.param(
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "max\n",
                "sys/fs/cgroup/memory.current": "7\n",
            },
            1000 * 1024,
            id="v2 without a limit",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": "5000\n",
                "sys/fs/cgroup/a/memory.current": "4500\n",
                "sys/fs/cgroup/a/memory.stat": "file 500\ninactive_file 200\n",
                "sys/fs/cgroup/a/b/memory.max": "9000\n",
                "sys/fs/cgroup/a/b/memory.current": "1000\n",
            },
            5000 - 4500 + 200,
            id="v2, the parent's limit is nearer, file pages count as free",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/of-the-host\n0::/x\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "8000\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "6000\n",
                "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 10\n",
            },
            8000 - 6000 + 10,
            id="v1 in a container, whose path is the host's",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": NO_LIMIT_V1,
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "6000\n",
            },
            1000 * 1024,
            id="v1 without a limit",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "5000\n",
                "sys/fs/cgroup/memory.current": "6000\n",
            },
            0,
            id="beyond the limit",
        ),
    ],
)
def test_available_memory_is_the_least_of_all_limits(tmp_path, files, expected):
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert engine.available_memory(tmp_path) == expected


def test_available_memory_without_proc_is_all_there_is(tmp_path, monkeypatch):
    assert engine.available_memory(tmp_path) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    monkeypatch.delattr(os, "sysconf")
    assert engine.available_memory(tmp_path) == sys.maxsize


def test_available_memory_under_a_limit_of_the_address_space(tmp_path, monkeypatch):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(MEMINFO)
    (tmp_path / "proc/self/status").write_text("VmPeak:  900 kB\nVmSize:  100 kB\n")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (300 * 1024, resource.RLIM_INFINITY))
    assert engine.available_memory(tmp_path) == 200 * 1024
