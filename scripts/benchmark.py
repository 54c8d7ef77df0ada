"""Measures what the README claims of speed and memory; both sides of a ratio in one run, interleaved, several times.

    python scripts/benchmark.py reading FOLDER    what the checksums cost on reading a cache, in a folder for 800 MB
    python scripts/benchmark.py memory FOLDER     peak memory and seconds: precompute, merge; 6,000 and 60,000 images
    python scripts/benchmark.py room FOLDER       peak memory of each recipe, and what it asks for before it begins
    python scripts/benchmark.py heads CACHE       Keras' fit over ours, 32 heads over one, logistic and scikit-learn's
    python scripts/benchmark.py extraction FOLDER [DATASET]   images a second: engines, naive Keras, the command;
                                                  without TFDS, DATASET is an .npz file
    python scripts/benchmark.py feeding FOLDER    what precompute would make if the network cost nothing
    python scripts/benchmark.py formats RUN FOLDER   every format of an exported model; what is exported into FOLDER
                                                  already, and its accuracy, is not made again

Prints a JSON object; seconds and bytes are lists, one entry a repeat. `--quick` repeats twice; on a processor
`extraction --quick` leaves out what takes more than half a minute there: `torch.compile`, and the command.
"""

import contextlib
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tfl.cache import CachedRows, Cost, PartialCache, open_cache
from tfl.specs import VIEWS, CacheSpec, DatasetSpec, FeatureSpec, View

QUICK = "--quick" in sys.argv
REPEATS = 2 if QUICK else 5
MEMORY_REPEATS = 1 if QUICK else 3
HEAD_REPEATS = 1 if QUICK else 2
NUM_FEATURES = 2048
PACKAGES = ("h5py", "numpy", "keras", "tensorflow", "jax", "torch", "openvino", "onnxruntime", "ai-edge-litert")
SHARD_ROWS = 1024
COMMAND_REPEATS = 1 if QUICK else 3
COMMAND_IMAGES = (128, 640)
RESNET50_MACS = 3.86e9  # multiply-adds of an image at 224 pixels, He et al. 2015, table 1 counts 3.8e9 without the top
ACCELERATOR_BATCHES, PROCESSOR_BATCHES = 20, 2
ACCELERATOR_IMAGES = (2_000, 42_000)
NPZ_IMAGES, PNG_IMAGES, JPEG_IMAGES = (1_000, 21_000), (1_000, 11_000), (50, 1_050)
Way = Callable[[Sequence[Any]], Callable[[], Any]]  # begins with a batch of images; what it returns waits for features


def write_cache(folder: Path, num_rows: int, views: tuple[View, ...] = ("original",)) -> Path:
    """A cache of ResNet50's width, of random features, through the ordinary shards and merge."""
    dataset = DatasetSpec("random", f"train[0:{num_rows}]", "", "", "1")
    spec = CacheSpec(FeatureSpec(weights="sha256:" + "0" * 64), dataset, views)
    partial = PartialCache(folder / spec.file_name, spec, {"train": num_rows}, {"shard_rows": SHARD_ROWS})
    rng = np.random.default_rng(0)
    with partial.held():
        for shard in partial.missing():
            count = shard.stop - shard.start
            ids = np.asarray([f"train_{row:05d}".encode() for row in range(shard.start, shard.stop)])
            first, *further = (rng.random((count, NUM_FEATURES), np.float32) for _ in views)
            rows = CachedRows(first, rng.integers(0, 10, count), ids, dict(zip(views[1:], further, strict=True)))
            partial.write(shard, rows, Cost(0.0, count))
        return partial.finish(tuple("abcdefghij"), {"typed": {"dataset": "random", "weights": "random"}})


def seconds_of(call: Callable[[], Any]) -> float:
    """Wall time of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def reading(folder: Path) -> dict[str, Any]:
    """50,000 rows from page cache: by tfl, by h5py with and without checksums, and by numpy."""
    path = write_cache(folder, 50_000)
    features = open_cache(path).read("train").features
    np.save(folder / "plain.npy", features)
    with h5py.File(folder / "unchecked.h5", "w", libver="v110") as file:
        file.create_dataset("train/features", data=features, chunks=(128, NUM_FEATURES))
    del features

    def by_h5py(path: Path) -> np.ndarray:
        with h5py.File(path) as file:
            return np.asarray(file["train/features"][:])

    ways: dict[str, Callable[[], Any]] = {
        "tfl, checked": lambda: open_cache(path).read("train"),
        "h5py, fletcher32": lambda: by_h5py(path),
        "h5py, unchecked": lambda: by_h5py(folder / "unchecked.h5"),
        "numpy.load": lambda: np.load(folder / "plain.npy"),
    }
    for call in ways.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, call in ways.items():
            seconds[name].append(seconds_of(call))
    pairs = zip(seconds["tfl, checked"], seconds["h5py, unchecked"], strict=True)
    ratios = [checked / unchecked for checked, unchecked in pairs]
    return {"seconds": seconds, "checked_over_unchecked": ratios, "median_ratio": statistics.median(ratios)}


def peak_bytes(command: list[str]) -> int:
    """The largest resident size of a command, in bytes."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return int(usage.ru_maxrss) * 1024


def memory(folder: Path) -> dict[str, Any]:
    """Of real CIFAR-10 through the real ResNet50 at 32 pixels; and of the merge alone, of 2,048 features."""
    splits = {
        6_000: ["--train-split", "train[:5000]", "--test-split", "test[:1000]"],
        60_000: ["--train-split", "train", "--test-split", "test"],
    }
    peaks: dict[str, dict[int, list[float]]] = {name: {n: [] for n in splits} for name in ("precompute", "merge")}
    seconds: dict[str, dict[int, list[float]]] = {name: {n: [] for n in splits} for name in peaks}
    for _ in range(MEMORY_REPEATS):
        for num_images, flags in splits.items():
            for name in peaks:
                with tempfile.TemporaryDirectory(dir=folder) as scratch:
                    script = str(Path(__file__).with_name("precompute.py"))
                    commands = {
                        "precompute": [script, "--image-size", "32", *flags, "--cache-dir", scratch],
                        "merge": [__file__, "_merge", scratch, str(num_images)],
                    }
                    started = time.perf_counter()
                    peaks[name][num_images].append(peak_bytes([sys.executable, *commands[name]]))
                    seconds[name][num_images].append(time.perf_counter() - started)
    return {"peak_bytes": peaks, "seconds": seconds, "growth": growth(peaks), "growth_of_seconds": growth(seconds)}


def growth(measured: dict[str, dict[int, list[float]]]) -> dict[str, float]:
    """Of the median, from the fewest images to the most."""
    return {name: statistics.median(of[max(of)]) / statistics.median(of[min(of)]) for name, of in measured.items()}


def room(folder: Path) -> dict[str, Any]:
    """What each recipe takes beyond what it takes on few rows, in times the bytes of one view's features."""
    from tfl.runs import run
    from tfl.specs.recipes import RECIPES, Selection

    rows = 30_000
    peaks: dict[str, dict[int, dict[str, float]]] = {name: {} for name in RECIPES if name != "reference"}
    for views in (VIEWS[:1], VIEWS[:2], VIEWS[:3]):
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            paths = [write_cache(Path(scratch), count, views) for count in (300, rows)]
            for name, of in peaks.items():
                command = [sys.executable, __file__, "_room", *map(str, paths), name]
                taken = int(subprocess.run(command, capture_output=True, check=True).stdout.split()[-1])
                copies = run.COPIES_TO_CHOOSE[RECIPES[name]]
                asked = run.estimate_bytes(open_cache(paths[1]), Selection(), copies)
                one_view = rows * NUM_FEATURES * 4
                of[len(views)] = {"taken": taken / one_view, "asked": asked / one_view}
                print(name, len(views), of[len(views)], file=sys.stderr)
    return {"rows": rows, "copies_of_one_view": peaks}


def train_on(few: Path, many: Path, name: str) -> None:
    """Print how many bytes more a recipe takes on many rows than on few."""
    from tfl.runs.run import train
    from tfl.specs.recipes import Best, Grid, Knn, Logistic, Mlp, Recipe, Ridge

    recipes: dict[str, Recipe] = {
        "ridge": Ridge(),
        "logistic": Logistic(l2=(1.0, 0.1), max_iterations=5),
        "mlp": Mlp(hidden=(64,), epochs=1),
        "grid": Grid(learning_rate=(0.001,), weight_decay=(0.0,), epochs=1),
        "knn": Knn(),
        "best": Best(candidates=4),
    }
    peaks = []
    with tempfile.TemporaryDirectory(dir=few.parent) as runs:
        for path in (few, many):
            train(path, recipes[name], runs_dir=Path(runs))
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    print(peaks[1] - peaks[0])


def heads(path: Path) -> dict[str, Any]:
    """Training on a cache's rows: reference, K heads in one pass, and the logistic path, each beside another way."""
    from sklearn.linear_model import LogisticRegression

    from tfl import heads
    from tfl.heads.sgd import settings_of, train_grid
    from tfl.heads.standard import compute_scaling
    from tfl.specs.recipes import Grid, Logistic, Selection

    cache = open_cache(path)
    fitting, val, everything = heads.split_rows(heads.read_rows(cache, "train", Selection()), 0.1, 0, cache.class_names)
    grid = Grid(epochs=2, batch_size=256)
    settings = settings_of(grid)
    seconds: dict[str, list[float]] = {"one head": [], f"{len(settings)} heads": [], "logistic": [], "scikit-learn": []}
    accuracies: dict[str, float] = {}

    def logistic() -> None:
        found = heads.search(Logistic(), fresh(fitting), val)
        accuracies["logistic"] = found.trial["val_accuracy"]
        accuracies["l2"] = found.trial["setting"]["l2"]
        found.refit(fresh(everything))

    def scikit_learn() -> None:
        scaling = compute_scaling(fitting)
        model = LogisticRegression(C=1 / (accuracies["l2"] * fitting.num_rows), max_iter=100)
        model.fit(scaling.apply(fitting.features), fitting.labels)
        accuracies["scikit-learn"] = float((model.predict(scaling.apply(val.features)) == val.labels).mean())

    def fresh(rows: heads.LabelledFeatures) -> heads.LabelledFeatures:
        return rows.part(slice(None))  # nothing of what an earlier repeat has found

    seconds |= reference(everything)
    for _ in range(REPEATS):
        seconds["one head"].append(seconds_of(lambda: train_grid(grid, settings[:1], fitting)))
        seconds[f"{len(settings)} heads"].append(seconds_of(lambda: train_grid(grid, settings, fitting)))
    for _ in range(HEAD_REPEATS):
        seconds["logistic"].append(seconds_of(logistic))
        seconds["scikit-learn"].append(seconds_of(scikit_learn))
    pairs = zip(seconds[f"{len(settings)} heads"], seconds["one head"], strict=True)
    ratios = [many / one for many, one in pairs]
    rows = {"fitting_rows": fitting.num_rows, "num_features": fitting.num_features}
    return {**rows, "seconds": seconds, "val_accuracy": accuracies, "many_over_one": statistics.median(ratios)}


def reference(rows: Any) -> dict[str, list[float]]:
    """Ten epochs of the reference recipe by tfl, and by Keras' own `fit` on a compiled layer."""
    import keras

    from tfl import heads
    from tfl.specs.recipes import Reference

    recipe = Reference()

    def plain() -> None:
        layer = keras.Sequential([keras.Input((rows.num_features,)), keras.layers.Dense(rows.num_classes)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        layer.compile(keras.optimizers.SGD(recipe.learning_rate, recipe.momentum), loss, metrics=["accuracy"])
        layer.fit(rows.features, rows.labels, recipe.batch_size, recipe.epochs, verbose=0)

    ways: dict[str, Callable[[], Any]] = {
        "reference": lambda: heads.fit(recipe, rows.stacked(), rows.num_classes),
        "keras fit": plain,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(HEAD_REPEATS + 1):
        for name, call in ways.items():
            seconds[name].append(seconds_of(call))
    return seconds


def extraction(folder: Path, dataset: str = "cifar10") -> dict[str, Any]:
    """Real CIFAR-10 through ResNet50 at 224 pixels: each engine, naive Keras, PyTorch, and the command `precompute`.

    Every way is given batch after batch, and only then waited for: an accelerator does not wait for the program. A way
    that fails is left out, and `failed` says why.
    """
    from tfl import datasets, engine

    batch_size = engine.default_batch_size(SHARD_ROWS)
    num_batches = ACCELERATOR_BATCHES if engine.has_accelerator() else PROCESSOR_BATCHES
    examples = datasets.open_dataset(DatasetSpec(dataset)).examples("train", 0, num_batches * batch_size)
    images = [example.image for example in examples if isinstance(example, datasets.Example)]
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    ways, failed = working(extraction_ways(batch_size), batches[0])
    rates = timed(ways, failed, lambda way: len(images) / seconds_of(partial(all_of, way, batches)))
    naive_rates = rates.get("keras predict", [])
    over = {
        name: statistics.median(ours / naive for ours, naive in zip(of, naive_rates, strict=True))
        for name, of in rates.items()
        if naive_rates
    }
    own = f"{engine.resolve_engine('auto', 'float32')} float32"
    repeats = COMMAND_REPEATS if own in rates and (engine.has_accelerator() or not QUICK) else 0
    command = [utilisation(folder, partial(all_of, ways[own], batches), len(images), dataset) for _ in range(repeats)]
    rates_and_ratios = {"images_per_second": rates, "median_over_keras_predict": over, "failed": failed}
    return {"device": engine.device_name(), "batch_size": batch_size, **rates_and_ratios, "command": command}


Makers = dict[str, Callable[[], dict[str, Way]]]  # what makes ways, each of which may fail


def extraction_ways(batch_size: int) -> Makers:
    """Makers of every way of each dtype."""
    makers: Makers = {}
    for dtype in dtypes():
        if dtype == "float32":
            makers["naive keras"] = lambda: naive(_built("float32"), batch_size)
        for name in engines(dtype):
            makers[f"{name} {dtype}"] = partial(engine_way, name, dtype, batch_size)
        if dtype != "float16" or not _is_processor():
            makers[f"pytorch {dtype}"] = partial(pytorch, dtype)
            makers[f"{dtype} matrix product bound"] = partial(_bound, dtype)
    return makers


def _built(dtype: str) -> Any:
    from tfl.backbones import backbone

    return backbone.build_backbone(FeatureSpec(compute_dtype=dtype))  # type: ignore[arg-type]


def engine_way(name: str, dtype: str, batch_size: int) -> dict[str, Way]:
    """An engine of `tfl precompute`."""
    from tfl import engine

    return {f"{name} {dtype}": engine.Forward(_built(dtype), batch_size, name).start}


def _bound(dtype: str) -> dict[str, Way]:
    return {f"{dtype} matrix product bound": partial(matrix_product, dtype)}


def working(makers: Makers, batch: Sequence[Any]) -> tuple[dict[str, Way], dict[str, str]]:
    """The ways that can be made and run on a batch; and of the others why not."""
    ways: dict[str, Way] = {}
    failed: dict[str, str] = {}
    for maker, make in makers.items():
        for name, way in (attempted(maker, make, failed) or {}).items():
            attempted(name, partial(all_of, way, [batch]), failed)
            if name not in failed:
                ways[name] = way
    return ways, failed


def timed(ways: dict[str, Way], failed: dict[str, str], rate_of: Callable[[Way], float]) -> dict[str, list[float]]:
    """The rates of each way, in turns; a way that fails goes into `failed`, and the others go on."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name in list(rates):
            rate = attempted(name, partial(rate_of, ways[name]), failed)
            if rate is None:
                del rates[name]
            else:
                rates[name].append(rate)
    return rates


def attempted(name: str, call: Callable[[], Any], failed: dict[str, str]) -> Any:
    """What a call returns; None if it fails: then stderr and `failed` say which and why."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 -- each engine raises its own
        failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        print(f"{name} is left out: {failed[name]}", file=sys.stderr)
        return None


def all_of(way: Way, batches: Sequence[Sequence[Any]]) -> None:
    """Every batch, the next begun before the last is waited for."""
    for wait in [way(batch) for batch in batches]:
        wait()


def _is_processor() -> bool:
    from tfl import engine

    return not engine.has_accelerator()


def dtypes() -> list[str]:
    """Those that the device has instructions for."""
    from tfl import engine
    from tfl.engine.machine import instruction_sets

    if not _is_processor():
        return ["float32", "bfloat16"]
    if importlib.util.find_spec("openvino") is not None:
        return engine.openvino.supported_dtypes()
    has_bfloat16 = {"avx512_bf16", "amx_bf16", "bf16"} & set(instruction_sets())
    return ["float32", "bfloat16"] if has_bfloat16 else ["float32"]


def engines(dtype: str) -> list[str]:
    """Those of `tfl precompute` that compute in this dtype here; float16 on a processor by OpenVINO alone."""
    from tfl import engine
    from tfl.errors import TflError

    found = []
    typeable = ("openvino",) if dtype == "float16" and _is_processor() else ("keras", "openvino", "torch.compile")
    for typed in typeable:
        with contextlib.suppress(TflError):
            found.append(engine.resolve_engine(typed, dtype))
    return found


def naive(built: Any, batch_size: int) -> dict[str, Way]:
    """What is done without tfl: `predict` on the whole model; and thingsvision's new model for every batch."""
    import keras

    def predict(batch: Sequence[Any]) -> Callable[[], Any]:
        features = built.model.predict(np.stack(batch), batch_size=batch_size, verbose=0)
        return lambda: features

    def new_model(batch: Sequence[Any]) -> Callable[[], Any]:
        features = keras.Model(built.model.input, built.model.output).predict_on_batch(np.stack(batch))
        return lambda: features

    return {"keras predict": predict, "a new keras model for every batch": new_model}


def pytorch(dtype: str) -> dict[str, Way]:
    """The ResNet50 of torchvision, where that is there: evaluation mode, channels_last; and by `torch.compile`.

    On a GPU float32 is float32, and once more as PyTorch does it unasked: convolutions in TensorFloat-32.
    """
    if importlib.util.find_spec("torchvision") is None:
        return {}
    import torch

    from tfl.comparison.reference.vision import torchvision

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = torchvision().models.resnet50(weights=None)
    network.fc = torch.nn.Identity()
    network = network.eval().to(device, getattr(torch, dtype), memory_format=torch.channels_last)

    def begin(forward: Any, batch: Sequence[Any], is_tf32: bool = False) -> Callable[[], Any]:
        torch.backends.cudnn.allow_tf32 = is_tf32
        with torch.inference_mode():
            pixels = torch.from_numpy(np.stack(batch)).to(device).permute(0, 3, 1, 2).to(getattr(torch, dtype))
            pixels = torch.nn.functional.interpolate(pixels, (224, 224), mode="bilinear", antialias=True)
            features = forward(pixels.contiguous(memory_format=torch.channels_last)).float()
        return lambda: features.cpu().numpy()

    ways: dict[str, Way] = {f"pytorch {dtype}": partial(begin, network)}
    if device.type == "cuda" or not QUICK:
        compiled = torch.compile(network, options={"freezing": True})
        ways[f"pytorch {dtype}, torch.compile"] = partial(begin, compiled)
    if dtype == "float32" and device.type == "cuda":
        ways["pytorch TensorFloat-32"] = partial(begin, network, is_tf32=True)
    return ways


def matrix_product(dtype: str, batch: Sequence[Any]) -> Callable[[], Any]:
    """As many floating-point operations as these images take, in matrix products: it bounds a direct convolution."""
    from keras import ops

    from tfl import engine

    size = 8192 if engine.has_accelerator() else 2048
    with engine.exact_float32():
        square = ops.full((size, size), 1 / size, dtype)
        for _ in range(max(1, round(2 * RESNET50_MACS * len(batch) / (2 * size**3)))):
            square = ops.matmul(square, square)
    return lambda: ops.convert_to_numpy(square[:1, :1])


def utilisation(folder: Path, bare: Callable[[], Any], num_images: int, dataset: str) -> dict[str, float]:
    """`precompute` as a command on few and on more images: the rate of what is more, over the bare forward pass's.

    Args:
      bare: computes the features of `num_images`.
    """
    from tfl import engine

    script, seconds = Path(__file__).with_name("precompute.py"), {}
    rates = [num_images / seconds_of(bare)]
    few, more = ACCELERATOR_IMAGES if engine.has_accelerator() else COMMAND_IMAGES
    for count in (few, more):
        with tempfile.TemporaryDirectory(dir=folder) as cache:
            slices = ["--train-split", f"train[:{count}]", "--test-split", ""]
            flags = ["--dataset", dataset, *slices, "--cache-dir", cache]
            seconds[count] = seconds_of(partial(peak_bytes, [sys.executable, str(script), *flags]))
        rates.append(num_images / seconds_of(bare))
    rate, bare_rate = (more - few) / (seconds[more] - seconds[few]), statistics.median(rates)
    start = seconds[few] - few / rate
    return {"images_per_second": rate, "bare": bare_rate, "utilisation": rate / bare_rate, "start_seconds": start}


def feeding(folder: Path) -> dict[str, Any]:
    """Images a second through all of `precompute` but the network: CIFAR-10 three times, and photographs as JPEG files.

    Of more images over few, so that opening a dataset does not count. A photograph is 12 x 16 of CIFAR-10's images.
    """
    from PIL import Image

    from tfl import datasets

    source = datasets.open_dataset(DatasetSpec())
    datasets.write_npz(source, folder / "cifar10.npz")
    images = [example.image for example in datasets.require_good(source.examples("train", 0, max(PNG_IMAGES)))]
    for kind in ("png", "jpeg"):
        for name in ("even", "odd"):
            (folder / kind / "train" / name).mkdir(parents=True)
    for row, image in enumerate(images):
        Image.fromarray(image).save(folder / "png" / "train" / ("even", "odd")[row % 2] / f"{row}.png")
    for row in range(max(JPEG_IMAGES)):
        chosen = [images[(row + step) % len(images)] for step in range(12 * 16)]
        tiled = np.stack(chosen).reshape(12, 16, 32, 32, 3).swapaxes(1, 2).reshape(12 * 32, 16 * 32, 3)
        Image.fromarray(tiled).save(folder / "jpeg" / "train" / ("even", "odd")[row % 2] / f"{row}.jpg", quality=90)
    kinds = {
        "TFDS": ("cifar10", NPZ_IMAGES),
        "npz": (str(folder / "cifar10.npz"), NPZ_IMAGES),
        "folder of PNG files, 32 x 32": (str(folder / "png"), PNG_IMAGES),
        "folder of JPEG files, 512 x 384": (str(folder / "jpeg"), JPEG_IMAGES),
    }
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    with costless_network():
        for _ in range(REPEATS):
            for name, (dataset, (few, more)) in kinds.items():
                seconds = {count: seconds_of(partial(precomputed, dataset, count, folder)) for count in (few, more)}
                rates[name].append((more - few) / (seconds[more] - seconds[few]))
    return {"images_per_second": rates}


@contextlib.contextmanager
def costless_network() -> Iterator[None]:
    """`precompute` gets random features at once; it copies the images together, as it has to for any network."""
    from unittest.mock import patch

    from tfl import engine

    features = np.random.default_rng(0).random((1024, NUM_FEATURES), np.float32)

    def start(self: Any, images: Sequence[np.ndarray], view: str) -> Callable[[], np.ndarray]:
        if len({image.shape for image in images}) == 1:
            np.stack(images)
        return features[: len(images)].copy

    with patch.multiple(
        engine.Forward, __init__=lambda *_: None, start=start, presented=lambda self, image, view: image
    ):
        yield


def precomputed(dataset: str, count: int, folder: Path) -> None:
    """The first rows of a dataset, into a cache that goes at once."""
    from tfl.extraction.precompute import precompute
    from tfl.specs import Settings

    with tempfile.TemporaryDirectory(dir=folder) as cache:
        spec = DatasetSpec(dataset, f"train[:{count}]", "", "")
        # A slice of a folder in rows may be of one class.
        settings = Settings(cache_dir=Path(cache), batch_size=256, allow_missing_classes=True)
        precompute(FeatureSpec(weights="random"), spec, settings)


# Name, and flags of `tfl export`; the first one is what ratios are of.
FORMATS: dict[str, dict[str, Any]] = {
    "saved-model, not folded": {"fold_batch_norm": False},
    "saved-model": {},
    "saved-model, float16": {"quantize": "float16"},
    "keras": {"format": "keras"},
    "onnx": {"format": "onnx"},
    "onnx, float16": {"format": "onnx", "quantize": "float16"},
    "openvino": {"format": "openvino"},
    "openvino, float16": {"format": "openvino", "quantize": "float16"},
    "litert": {"format": "litert"},
    "litert, float16": {"format": "litert", "quantize": "float16"},
    "litert, int8": {"format": "litert", "quantize": "int8"},
    "torch": {"format": "torch"},
}
ACCURACY_IMAGES = 500
FORMAT_REPEATS = 3  # of starting, and of each of these
CALLS = {1: 8, 32: 1}  # by batch size


def exported(run_folder: Path, folder: Path, flags: dict[str, Any]) -> dict[str, Any]:
    """Export unless it is there, and measure accuracy on the first test images; both stay in the folder."""
    from tfl.artefacts import parity
    from tfl.artefacts.combined import found_dataset
    from tfl.artefacts.export import export
    from tfl.artefacts.manifest import description_path
    from tfl.runs.run import open_run
    from tfl.specs import Artefact

    run = open_run(run_folder)
    if not folder.exists():
        export(run_folder, folder, artefact=Artefact(**flags))
    notes = folder.with_suffix(".json")
    if not notes.exists():
        cache = run.open_cache()
        rows = itertools.islice(parity.images_of(cache, "test", found_dataset(cache)), ACCURACY_IMAGES)
        with parity.open_in_fresh_process(folder) as logits_of:
            metrics = parity.measure_accuracy(run, cache, rows, logits_of)
        accuracy = {"accuracy": metrics.accuracy, "interval": metrics.interval}
        notes.write_text(json.dumps({"run": str(run_folder.resolve()), **accuracy}), encoding="utf-8")
    kept = json.loads(notes.read_text(encoding="utf-8"))
    if kept["run"] != str(run_folder.resolve()):
        sys.exit(f"{folder} was exported from {kept['run']}; name another folder for {run_folder}")
    num_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    description = json.loads(description_path(folder, flags.get("format", "saved-model")).read_text(encoding="utf-8"))
    return {"bytes": num_bytes, "parity": description["parity"], **kept}


def formats(run_folder: Path, folder: Path) -> dict[str, Any]:
    """Each format in a process of its own, its runtime as it comes: 32-pixel images through a pipe and logits back."""
    from tfl.artefacts import parity

    places = {name: folder / name.replace(", ", "-").replace(" ", "-") for name in FORMATS}
    measured = {name: exported(run_folder, places[name], FORMATS[name]) for name in FORMATS}
    images = np.random.default_rng(0).integers(0, 255, (max(CALLS), 32, 32, 3), np.uint8)
    seconds: dict[str, dict[str, list[float]]] = {name: {"start": [], "1": [], "32": []} for name in FORMATS}
    for _ in range(FORMAT_REPEATS):
        for name, place in places.items():
            began = time.perf_counter()
            with parity.open_in_fresh_process(place) as logits_of:
                logits_of(images[:1])
                seconds[name]["start"].append(time.perf_counter() - began)
    with contextlib.ExitStack() as stack:
        served = {name: stack.enter_context(parity.open_in_fresh_process(place)) for name, place in places.items()}
        for size in CALLS:
            for logits_of in served.values():
                logits_of(images[:size])
        for _ in range(FORMAT_REPEATS):
            for size, calls in CALLS.items():
                for name, logits_of in served.items():
                    for _ in range(calls):
                        seconds[name][str(size)].append(seconds_of(lambda: logits_of(images[:size])))  # noqa: B023
    base = seconds[next(iter(FORMATS))]["32"]
    for name, found in measured.items():
        ratios = [one / other for one, other in zip(base, seconds[name]["32"], strict=True)]
        found["throughput_ratio"] = {"median": statistics.median(ratios), "each": ratios}
        found["seconds"] = seconds[name]
    return {"accuracy_images": ACCURACY_IMAGES, "formats": measured}


def main() -> None:
    """Run what the command line names."""
    what, folder, *rest = [word for word in sys.argv[1:] if word != "--quick"]
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would leave other programs no GPU memory
    if what == "_merge":
        write_cache(Path(folder), int(rest[0]))
        return
    if what == "_room":
        train_on(Path(folder), Path(rest[0]), rest[1])
        return
    if what == "formats":
        print(json.dumps({**described(), **formats(Path(folder), Path(rest[0]))}, indent=2))
        return
    if what == "heads":
        print(json.dumps({**described(), **heads(Path(folder))}, indent=2))
        return
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        ways = {"reading": reading, "memory": memory, "room": room, "extraction": extraction, "feeding": feeding}
        result = ways[what](Path(scratch), *rest)
    print(json.dumps({**described(), **result}, indent=2))


def described() -> dict[str, Any]:
    """Machine and versions."""
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    versions = {package: version for package in PACKAGES if (version := installed_version(package))}
    return {**machine, "versions": {"hdf5": h5py.version.hdf5_version, **versions}}


def installed_version(package: str) -> str | None:
    """Version of a package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
