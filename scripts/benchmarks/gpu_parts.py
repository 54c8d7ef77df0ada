"""The parts of `gpu.py`; what needs a framework runs in a process of its own."""

import functools
import hashlib
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import low_precision
import numpy as np
import training
from extraction import measure_ways
from measure import attempt, call_in_fresh_process, run_command, seconds_of, tell, tfl_command
from watching import Timeline, watch_precompute
from ways import NO_PREALLOCATION, Network

RECIPES = ("logistic", "ridge", "mlp", "reference")
TEST_SHARE = 6  # one of so many images is for testing, as in CIFAR-10
IMPORTS = "import keras, h5py, tfl.extraction.precompute"


@dataclass(frozen=True)
class Size:
    """Images, network and repeats."""

    dataset: str = ""
    """An .npz file (`tfl fetch cifar10 --npz FILE` writes it) or a TFDS name; random images if empty."""
    weights: str = "random"
    """`random`, or a file of ResNet50's weights."""
    num_images: int = 60_000
    """Images of the whole command, a sixth of them for testing."""
    image_size: int = 224
    """Height and width that images are resized to."""
    shard_rows: int = 1024
    """Rows in a shard of `tfl precompute`."""
    warm_repeats: int = 2
    """Repeats of the command with the programs that JAX has kept."""
    repeats: int = 3
    """Turns of everything that is measured in a warm process."""
    num_batches: int = 0
    """Batches in a turn of the bare forward passes; 0 for as many as suit the machine."""
    quick: bool = False
    """Leave torch.compile out, and take small sizes for low precision."""


@dataclass
class Findings:
    """Numbers that have been measured so far."""

    results: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def add(self, quantity: str, way: str, *numbers: float) -> None:
        """Add one repeat, or several, of a way."""
        self.results.setdefault(quantity, {}).setdefault(way, []).extend(numbers)

    def add_all(self, quantity: str, ways: dict[str, list[float]]) -> None:
        """Add every repeat of every way."""
        for way, numbers in ways.items():
            self.add(quantity, way, *numbers)


@dataclass
class Bench:
    """The parts, each of which measures into `findings`."""

    size: Size
    folder: Path
    findings: Findings
    cache: Path | None = None
    """A finished cache in bfloat16, which later parts train on and compare with."""

    def variables(self) -> dict[str, str]:
        """Return where tfl, JAX and CUDA keep what they compile: in the folder, empty at first."""
        home = self.folder / "home"
        return {
            "TFL_HOME": str(home),
            "XDG_CACHE_HOME": str(home),
            "CUDA_CACHE_PATH": str(home / "cuda"),
        }

    def precompute(self, cache_dir: Path, *further: str) -> list[str]:
        """Return the command that is timed."""
        size = self.size
        num_test = max(1, size.num_images // TEST_SHARE)
        splits = (
            "--train-split",
            f"train[:{size.num_images - num_test}]",
            "--test-split",
            f"test[:{num_test}]",
        )
        network = ("--weights", size.weights, "--image-size", str(size.image_size))
        settings = (
            "--compute-dtype",
            "bfloat16",
            "--shard-rows",
            str(size.shard_rows),
            "--allow-missing-classes",
        )
        place = ("--cache-dir", str(cache_dir))
        return tfl_command("precompute", "--dataset", size.dataset, *splits, *network, *settings, *place, *further)

    def measure_command(self) -> None:
        """Time the whole command: first with nothing compiled, then with what JAX has kept."""
        self._import_once()
        shutil.rmtree(self.folder / "home", ignore_errors=True)
        for turn in range(1 + self.size.warm_repeats):
            way = "cold" if turn == 0 else "warm"
            cache_dir = self._empty_folder(f"cache-{turn}")
            timeline = watch_precompute(self.precompute(cache_dir), cache_dir, self.variables())
            self._note(way, timeline)
            self.cache = next(cache_dir.glob("*.h5"))

    def _import_once(self) -> None:
        """Import what the command imports, so that neither the disk nor Python's compiler counts as its own."""
        for way in ("first", "second"):
            seconds = seconds_of(functools.partial(run_command, [sys.executable, "-c", IMPORTS], self.variables()))
            self.findings.add("import_seconds", way, seconds)

    def _note(self, way: str, timeline: Timeline) -> None:
        findings = self.findings
        findings.add("command_seconds", way, timeline.seconds)
        for stage, seconds in timeline.stages().items():
            findings.add("stage_seconds", f"{way}, {stage}", seconds)
        rate = timeline.images_per_second(self.size.num_images)
        if rate is not None:
            findings.add("command_images_per_second", way, rate)
        if timeline.gpu_percent is not None:
            findings.add("gpu_percent_while_extracting", way, timeline.gpu_percent)
        elif rate is not None:
            findings.failed[f"gpu_percent_while_extracting, {way}"] = "no sample of nvidia-smi between the shards"
        stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in timeline.stages().items())
        tell(f"command, {way}: {timeline.seconds:.2f} s ({stages}), {rate or 0:.0f} images/s")

    def _empty_folder(self, name: str) -> Path:
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def whole_cache(self) -> Path:
        """Return a finished cache; make it if no part before has."""
        if self.cache is None:
            cache_dir = self._empty_folder("cache-whole")
            run_command(self.precompute(cache_dir), self.variables())
            self.cache = next(cache_dir.glob("*.h5"))
        return self.cache

    def measure_resuming(self) -> None:
        """Kill the command half-way, resume it, and compare what is in the file with an uninterrupted one."""
        whole = digests_of_datasets(self.whole_cache())
        cache_dir = self._empty_folder("cache-killed")
        half = max(1, self.size.num_images // self.size.shard_rows // 2)
        killed = watch_precompute(self.precompute(cache_dir), cache_dir, self.variables(), kill_at_shards=half)
        resumed = watch_precompute(self.precompute(cache_dir), cache_dir, self.variables())
        found = digests_of_datasets(next(cache_dir.glob("*.h5")))
        self.findings.add("resume_seconds", "until the kill", killed.seconds)
        self.findings.add("resume_seconds", "resumed", resumed.seconds)
        differing = sorted(name for name in {*whole, *found} if whole.get(name) != found.get(name))
        self.findings.found["resume"] = {
            "was_killed": killed.was_killed,
            "shards_at_the_kill": killed.num_shards(),
            "are_datasets_equal": not differing,
            "differing_datasets": differing,
            "sha256_of_datasets": found,
        }
        tell(
            f"killed after {killed.seconds:.1f} s, resumed in {resumed.seconds:.1f} s; differing: {differing or 'none'}"
        )

    def measure_heads(self) -> None:
        """Time the training of each recipe, in a warm process and as a command."""
        cache, runs_dir = self.whole_cache(), self._empty_folder("runs")
        seconds, accuracies, failed = call_in_fresh_process(
            training.time_training,
            cache,
            runs_dir,
            RECIPES,
            self.size.repeats,
            variables=self.variables(),
        )
        for quantity, ways in seconds.items():
            self.findings.add_all(f"{quantity}_seconds", ways)
        self.findings.found["test_accuracy"] = accuracies
        self.findings.failed |= failed
        for name in RECIPES:
            flags = ("--recipe", name, "--runs-dir", str(runs_dir), "--allow-missing-classes")
            call = functools.partial(run_command, tfl_command("train", cache, *flags), self.variables())
            taken = attempt(
                f"tfl train --recipe {name}",
                functools.partial(seconds_of, call),
                self.findings.failed,
            )
            if taken is not None:
                self.findings.add("train_command_seconds", name, taken)
                tell(f"tfl train --recipe {name}: {taken:.2f} s")

    def measure_torch(self) -> None:
        """Time the same command under Keras' PyTorch backend."""
        engines = ("keras",) if self.size.quick else ("keras", "torch.compile")
        for engine in engines:
            way = f"KERAS_BACKEND=torch --engine {engine}"
            attempt(way, functools.partial(self._time_torch, way, engine), self.findings.failed)

    def _time_torch(self, way: str, engine: str) -> None:
        cache_dir = self._empty_folder(f"cache-torch-{engine}")
        variables = {**self.variables(), "KERAS_BACKEND": "torch"}
        timeline = watch_precompute(self.precompute(cache_dir, "--engine", engine), cache_dir, variables)
        self._note(way, timeline)

    def measure_rates(self) -> None:
        """Measure the bare forward passes of tfl, Keras and PyTorch in turns."""
        size = self.size
        network = Network(weights=size.weights, image_size=size.image_size)
        variables = {**self.variables(), **NO_PREALLOCATION}
        rates, failed, settings = call_in_fresh_process(
            measure_ways,
            *(size.dataset, size.repeats, network, size.quick, size.num_batches),
            variables=variables,
        )
        self.findings.add_all("bare_images_per_second", rates)
        self.findings.failed |= failed
        self.findings.settings |= settings

    def measure_low_precision(self) -> None:
        """Measure convolutions and matrix products in int8 and float8."""
        rates, failed = call_in_fresh_process(
            low_precision.probe, self.size.quick, self.size.repeats, variables=self.variables()
        )
        self.findings.add_all("tera_operations_per_second", rates)
        self.findings.failed |= failed


def digests_of_datasets(path: Path) -> dict[str, str]:
    """Return the sha256 of the values of every dataset in an HDF5 file, by its name."""
    digests: dict[str, str] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            digests[name] = hashlib.sha256(np.asarray(item[()]).tobytes()).hexdigest()

    with h5py.File(path) as file:
        file.visititems(visit)
    return digests


def write_random_images(path: Path, num_images: int) -> None:
    """Write an .npz dataset of random images, 32 x 32, of ten classes."""
    rng = np.random.default_rng(0)
    num_test = max(1, num_images // TEST_SHARE)
    arrays: dict[str, Any] = {"class_names": np.asarray([f"class {label}" for label in range(10)])}
    for split, count in (("train", num_images - num_test), ("test", num_test)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
        arrays[f"{split}_labels"] = np.arange(count) % 10
    np.savez(path, **arrays)
