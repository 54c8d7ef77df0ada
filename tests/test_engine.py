import importlib.util
import os
import platform
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import WITHOUT_TENSORFLOW

from tfl import backbones, engine
from tfl.artefacts.export import export
from tfl.cache import open_cache
from tfl.engine import devices, provenance, pytorch, tensorflow
from tfl.errors import TflError
from tfl.extraction.precompute import precompute
from tfl.heads import Logistic
from tfl.runs.training import train
from tfl.specs import Artefact

HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
RNG = np.random.default_rng(0)
IMAGES = list(RNG.integers(0, 255, (7, 10, 9, 3), dtype=np.uint8))
MIXED = [RNG.integers(0, 255, (8 + i, 15 - i, 3), dtype=np.uint8) for i in range(5)]


@pytest.fixture
def built(tiny_backbone, features):
    return backbones.build_backbone(features)


@pytest.fixture(params=["tensorflow", "openvino"])
def name(request):
    """An engine that is installed."""
    if request.param == "openvino" and not HAS_OPENVINO:
        pytest.skip("needs openvino")
    return request.param


def test_agrees_with_keras(built, name):
    expected = built.model.predict(np.stack(IMAGES), verbose=0)
    np.testing.assert_allclose(engine.Forward(built, 8, name).features(IMAGES), expected, rtol=1e-4, atol=1e-6)


def test_batch_size_and_position_do_not_count(built, name):
    whole = engine.Forward(built, 7, name).features(IMAGES)
    forward = engine.Forward(built, 4, name)
    singly = np.concatenate([forward.features([image]) for image in IMAGES])
    np.testing.assert_allclose(whole, singly, rtol=1e-4, atol=1e-6)


def test_rows_of_an_earlier_batch_stay_what_they_were(built, name):
    forward = engine.Forward(built, 4, name)
    first = forward.features(IMAGES[:4])
    before = first.copy()
    forward.features(IMAGES[3:])
    np.testing.assert_array_equal(first, before)


def test_images_of_differing_sizes(built, name):
    expected = np.concatenate([built.model.predict(image[None], verbose=0) for image in MIXED])
    np.testing.assert_allclose(engine.Forward(built, 8, name).features(MIXED), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("images", [IMAGES, MIXED], ids=["one size", "differing sizes"])
def test_views(built, images):
    forward = engine.Forward(built, 8)
    for view in ("hflip", "original", "crop2"):
        pixels = np.concatenate([np.asarray(built.build_views((view,))(image[None])) for image in images])
        expected = built.network.predict(pixels, verbose=0)
        np.testing.assert_allclose(forward.features(images, view), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("compute_dtype", ["bfloat16", "float16"])
def test_compute_dtype_is_the_networks_arithmetic(tiny_backbone, features, name, compute_dtype):
    """Near float32's features, and not they; on a processor without the instructions OpenVINO is refused."""
    if name == "openvino" and compute_dtype not in engine.openvino.supported_dtypes():
        with pytest.raises(TflError, match=f"not in {compute_dtype}; or take --engine keras"):
            engine.resolve_engine("openvino", compute_dtype)
        return
    exact = engine.Forward(backbones.build_backbone(features), 8, name).features(IMAGES)
    narrow = backbones.build_backbone(replace(features, compute_dtype=compute_dtype))
    found = engine.Forward(narrow, 8, name).features(IMAGES)
    difference = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert 1e-5 < difference < 0.1
    assert found.dtype == np.float32


@pytest.fixture
def able(monkeypatch):
    """A processor that has every arithmetic; where this one has not, OpenVINO is not told which to take."""
    real, hint = engine.openvino.supported_dtypes(), engine.openvino.precision_hint
    monkeypatch.setattr(engine.openvino, "supported_dtypes", lambda: list(engine.openvino.DTYPES))
    monkeypatch.setattr(engine.openvino, "precision_hint", lambda dtype: hint(dtype if dtype in real else "float32"))


@pytest.mark.skipif(not HAS_OPENVINO, reason="needs openvino")
@pytest.mark.usefixtures("able", "tiny_backbone")
@pytest.mark.parametrize("compute_dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("layers", [("last",), ("relu1", "last")])
def test_openvino_takes_the_float32_network_for_every_dtype(features, layers, compute_dtype):
    """All of the way but the hint, on any processor."""
    assert engine.resolve_engine("auto", compute_dtype) == "openvino"
    spec = replace(features, layers=layers, pooling=("avg", "max"))
    exact = engine.Forward(backbones.build_backbone(spec), 8, "openvino").features(IMAGES)
    narrow = backbones.build_backbone(replace(spec, compute_dtype=compute_dtype))
    found = engine.Forward(narrow, 8, "openvino").features(IMAGES)
    assert np.linalg.norm(found - exact) / np.linalg.norm(exact) < 0.02
    assert narrow.spec.compute_dtype == compute_dtype
    assert narrow.unpooled.get_layer("conv2").compute_dtype == compute_dtype  # what is exported stays as asked for


@pytest.mark.skipif(not HAS_OPENVINO, reason="needs openvino")
@pytest.mark.usefixtures("able", "tiny_backbone")
@pytest.mark.parametrize("compute_dtype", ["bfloat16", "float16"])
def test_a_cache_of_low_precision_by_openvino_is_trained_on_and_exported(
    features, dataset, settings, tmp_path, compute_dtype
):
    spec = replace(features, compute_dtype=compute_dtype)
    path = precompute(spec, dataset, replace(settings, engine="auto"))
    cache = open_cache(path)
    assert cache.provenance.values["engine"] == "openvino"
    assert cache.spec.features.compute_dtype == compute_dtype
    run = train(path, Logistic(l2=(0.1,)), runs_dir=tmp_path / "runs")
    for format_name in ("saved-model", "keras"):
        parity = export(run, tmp_path / format_name, artefact=Artefact(format=format_name))
        assert parity.error < 0.05
        assert parity.same_class > 0.9


@pytest.mark.skipif(not HAS_OPENVINO, reason="needs openvino")
def test_the_hint_is_the_arithmetic_asked_for():
    hints = {dtype: engine.openvino.precision_hint(dtype) for dtype in ("float32", "bfloat16", "float16")}
    assert [hint["INFERENCE_PRECISION_HINT"] for hint in hints.values()] == ["f32", "bf16", "f16"]


@pytest.mark.skipif(not HAS_OPENVINO, reason="needs openvino")
def test_engine_is_chosen_by_what_is_there(monkeypatch):
    assert engine.resolve_engine("auto", "float32") == "openvino"
    assert engine.resolve_engine("keras", "float32") == "tensorflow"
    with monkeypatch.context() as patch:
        patch.setattr(keras.backend, "backend", lambda: "jax")
        assert engine.resolve_engine("auto", "float32") == "jax"
        with pytest.raises(TflError, match="takes the network from TensorFlow, and KERAS_BACKEND is jax"):
            engine.resolve_engine("openvino", "float32")
        patch.setattr(keras.backend, "backend", lambda: "numpy")
        with pytest.raises(TflError, match="KERAS_BACKEND is 'numpy'; expected one of tensorflow, jax, torch"):
            engine.resolve_engine("auto", "float32")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert engine.resolve_engine("auto", "float32") == "tensorflow"
    with pytest.raises(TflError, match=r"it is not installed; pip install '.\[openvino\]'; or take --engine keras"):
        engine.resolve_engine("openvino", "float32")


def test_torch_compile_says_what_it_lacks(monkeypatch, tmp_path):
    with pytest.raises(TflError, match="torch.compile: it is for KERAS_BACKEND=torch, and that is tensorflow; or take"):
        engine.resolve_engine("torch.compile", "float32")
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    monkeypatch.setattr(pytorch, "has_accelerator", lambda: False)
    monkeypatch.setenv("CXX", str(tmp_path / "compiler"))
    with pytest.raises(TflError, match="it needs a C.. compiler, and there is no .*compiler; or take --engine keras"):
        engine.resolve_engine("torch.compile", "float32")
    (tmp_path / "compiler").touch(0o755)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(TflError, match="it needs Python's headers, and there is no .*Python.h; or take --engine keras"):
        engine.resolve_engine("torch.compile", "float32")
    (tmp_path / "Python.h").touch()
    assert engine.resolve_engine("torch.compile", "float32") == "torch.compile"


@pytest.mark.skipif(not HAS_OPENVINO, reason="needs openvino")
def test_openvino_does_not_report_its_import_to_its_maker():
    program = "import sys; from tfl import engine; engine.openvino.supported_dtypes()\n"
    program += "print('openvino_telemetry' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def test_out_of_memory_is_known_by_each_backends_error():
    import tensorflow as tf

    with pytest.raises(tf.errors.ResourceExhaustedError) as refused:
        tf.zeros((2**31 - 1, 2**20))
    assert engine.is_out_of_memory(refused.value)
    assert engine.is_out_of_memory(np._core._exceptions._ArrayMemoryError((1 << 60,), np.dtype("f4")))
    assert engine.is_out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."))
    assert engine.is_out_of_memory(
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate")
    )
    assert not engine.is_out_of_memory(RuntimeError("shapes differ"))
    assert not engine.is_out_of_memory(ValueError("RESOURCE_EXHAUSTED"))


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


@pytest.mark.torch
@pytest.mark.parametrize("was_allowed", [False, True])
def test_exact_float32_of_torch_is_put_back(monkeypatch, was_allowed):
    import torch

    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    for place in (torch.backends.cudnn, torch.backends.cuda.matmul):
        before = place.allow_tf32
        place.allow_tf32 = was_allowed
        try:
            with engine.exact_float32():
                assert not place.allow_tf32
            assert place.allow_tf32 == was_allowed
        finally:
            place.allow_tf32 = before


def test_xla_agrees_with_keras(built, monkeypatch):
    """As on a GPU, which is not there: XLA compiles for the processor too."""
    monkeypatch.setattr(tensorflow, "has_accelerator", lambda: True)
    expected = built.model.predict(np.stack(IMAGES), verbose=0)
    np.testing.assert_allclose(engine.Forward(built, 8, "tensorflow").features(IMAGES), expected, rtol=1e-4, atol=1e-6)


PRINT_FEATURES = """
sys.path.insert(0, {tests!r})
import numpy as np, tiny
from tfl import backbones, engine
from tfl.specs import FeatureSpec
backbones.register(tiny.SOURCE)
built = backbones.build_backbone(FeatureSpec(backbone="tiny", weights="random", image_size=12))
rng = np.random.default_rng(0)
images = list(rng.integers(0, 255, (7, 10, 9, 3), dtype=np.uint8))
mixed = [rng.integers(0, 255, (8 + i, 15 - i, 3), dtype=np.uint8) for i in range(5)]
forward = engine.Forward(built, 8, engine.resolve_engine({name!r}, "float32"))
np.save({out!r}, np.concatenate([forward.features(images), forward.features(mixed), forward.features(mixed, "crop2")]))
print(built.spec.weights)
"""


@pytest.mark.parametrize(
    ("backend", "name"),
    [
        ("jax", "auto"),
        pytest.param("torch", "auto", marks=pytest.mark.torch),
        pytest.param("torch", "torch.compile", marks=pytest.mark.torch),
    ],
)
def test_other_backends_agree(built, backend, name, tmp_path):
    """In a process without TensorFlow: the same weights, and features within 1e-4."""
    pytest.importorskip(backend)
    program = WITHOUT_TENSORFLOW + PRINT_FEATURES.format(
        tests=str(Path(__file__).parent), name=name, out=str(tmp_path / "features.npy")
    )
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == built.spec.weights
    forward = engine.Forward(built, 8)
    ours = np.concatenate([forward.features(IMAGES), forward.features(MIXED), forward.features(MIXED, "crop2")])
    np.testing.assert_allclose(np.load(tmp_path / "features.npy"), ours, rtol=1e-4, atol=1e-5)


PRINT_RESIZING = """
import numpy as np
from tfl.backbones.presentation import build_views
from tfl.engine.resizing import compile_single_view
from tfl.specs import FeatureSpec
rng = np.random.default_rng(0)
images = [rng.integers(0, 255, (1, h, w, 3), dtype=np.uint8) for h, w in ((5, 7), (40, 33), (44, 50))]
compiled, errors = [], []
ways = ("bilinear", False, "hflip"), ("bicubic", True, "crop2"), ("lanczos3", False, "crop3")
for interpolation, antialias, view in ways:
    spec = FeatureSpec(image_size=12, interpolation=interpolation, antialias=antialias)
    present, expected = compile_single_view(spec, view), build_views(spec, (view,))
    errors += [np.abs(np.asarray(present(image)) - np.asarray(expected(image))).max() for image in images]
    compiled.append(present.__closure__[0].cell_contents._cache_size())
print(max(errors) < 1e-2 or max(errors), compiled)  # of 255
"""


def test_jax_resizes_images_of_any_size_in_few_shapes():
    """As Keras' own resizing, which JAX compiles for every size: two compilations for three sizes."""
    pytest.importorskip("jax")
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW + PRINT_RESIZING]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "True [2, 2, 2]"), done.stderr


PRINT_DEVICES = """
sys.path.insert(0, {tests!r})
import jax, numpy as np, tiny
from tfl import backbones, engine
from tfl.specs import FeatureSpec
backbones.register(tiny.SOURCE)
built = backbones.build_backbone(FeatureSpec(backbone="tiny", weights="random", image_size=12))
images = np.random.default_rng(0).integers(0, 255, (7, 10, 9, 3), dtype=np.uint8)
np.save({out!r}, engine.Forward(built, 9).features(list(images)))
features = engine.compile_model(built.model, (None, None, None, 3))(images[:6])
print(engine.describe_engine("jax", 9)["device"].split()[:3])
print(len(features.sharding.device_set), [shard.data.shape[0] for shard in features.addressable_shards])
"""


def test_jax_divides_a_batch_over_all_devices(built, tmp_path):
    program = WITHOUT_TENSORFLOW + PRINT_DEVICES.format(
        tests=str(Path(__file__).parent), out=str(tmp_path / "features.npy")
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["['3', 'x', 'CPU']", "3 [2, 2, 2]"]
    ours = engine.Forward(built, 8).features(IMAGES)
    np.testing.assert_allclose(np.load(tmp_path / "features.npy"), ours, rtol=1e-4, atol=1e-5)


PRINT_PROGRAMS = """
import jax
from pathlib import Path
from tfl.engine import compile_function, devices
double = lambda: float(compile_function(lambda x: x * 2)(jax.numpy.ones(())))
kept = lambda: len(list(Path(os.environ["TFL_HOME"]).rglob("*-cache")))
print(double(), kept())  # on a processor nothing is kept
devices.has_accelerator = lambda: True
print(double(), kept() > 0)
"""


@pytest.mark.parametrize("is_told", [False, True])
def test_jax_keeps_programs_of_an_accelerator(tmp_path, is_told):
    """In tfl's folder, unless it has been told another."""
    pytest.importorskip("jax")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "TFL_HOME": str(tmp_path / "home")}
    if is_told:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "other")
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW + "import os\n" + PRINT_PROGRAMS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["2.0 0", f"2.0 {not is_told}"]), done.stderr


def test_description_names_what_decides_the_last_bits():
    description = engine.describe_engine("tensorflow", 8)
    assert description["engine"] == "tensorflow"
    assert description["batch_size"] == 8
    assert description["versions"]["keras"] == keras.__version__
    assert description["device"] == " ".join([engine.device_name(), *engine.list_instruction_sets()])


def test_threads_are_those_that_compute(monkeypatch):
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "7")
    assert engine.count_threads() == 7
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "0")
    assert engine.count_threads() == len(os.sched_getaffinity(0))


@pytest.mark.torch
def test_threads_of_torch_are_those_that_compute(monkeypatch):
    import torch

    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    assert engine.count_threads() == 5


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("model name\t: x\nflags\t\t: fpu avx2 avx512f sse avx\nbugs\t: y\n", ["avx", "avx2", "avx512f"]),
        ("processor\t: 0\nFeatures\t: fp asimd sve\n", ["asimd", "sve"]),
        ("processor\t: 0\n", ["arm"]),
        (None, ["arm"]),
    ],
    ids=["x86", "ARM", "no flags", "no such file"],
)
def test_instruction_sets(tmp_path, monkeypatch, cpuinfo, expected):
    monkeypatch.setattr("platform.processor", lambda: "arm")
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert provenance.list_instruction_sets(tmp_path / "cpuinfo") == expected


@pytest.mark.parametrize(
    ("num_gpus", "shard_rows", "expected"),
    [(0, 1024, 32), (0, 16, 16), (1, 1024, 256), (1, 1000, 250), (3, 1024, 513), (5, 1024, 1025), (8, 1024, 1024)],
)
def test_default_batches_fill_a_shard(monkeypatch, num_gpus, shard_rows, expected):
    monkeypatch.setattr(devices, "has_accelerator", lambda: num_gpus > 0)
    monkeypatch.setattr(devices, "count_devices", lambda: max(1, num_gpus))
    assert engine.default_batch_size(shard_rows) == expected


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


COUNT_FAULTS = """
import resource
from tfl.machine import patches
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(64 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
with patches.keep_freed_memory():
    faults()
    print(faults())
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told so")
def test_freed_memory_is_kept():
    done = subprocess.run([sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, check=True)
    before, inside, after = map(int, done.stdout.split())
    assert inside < 100 < min(before, after)


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
