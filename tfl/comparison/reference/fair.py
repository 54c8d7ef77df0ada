"""The fair programs: the same training as a PyTorch engineer would write it, without caching and with it.

The backbone runs in evaluation mode under `inference_mode`, in channels_last memory, and through
`torch.compile` with frozen parameters if that is faster here. Images stay uint8 and are resized on
the device. They are in memory: a batch is a slice of an array, and a loader's workers would have
nothing to do.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from tfl.cache import open_cache
from tfl.comparison.lockstep import TurnTaker
from tfl.comparison.reference.head import Trainer, fit
from tfl.comparison.reference.network import build_resnet50, choose_device, preprocess
from tfl.comparison.reference.setup import FIT_REPEATS, Setup
from tfl.specs import Role

Forward = Callable[[torch.Tensor], torch.Tensor]


class Extractor:
    """The frozen backbone, run in the faster of two ways; a file in the setup's folder keeps which way that is."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        network = build_resnet50(setup)
        network.fc = nn.Identity()
        network.eval().requires_grad_(False).to(choose_device(), memory_format=torch.channels_last)
        self._ways: dict[str, Forward] = {
            "eager": network,
            "torch.compile": torch.compile(network, options={"freezing": True}),
        }
        note = setup.folder / "way"
        if not note.exists():
            note.write_text(self._find_fastest_way(), encoding="utf-8")
        self.way = note.read_text(encoding="utf-8")

    def extract(self, images: np.ndarray) -> torch.Tensor:
        """Return features `(n, d)` float32 on the device, of images `(n, h, w, 3)` uint8; short batches are padded."""
        padding = ((0, self._setup.recipe.batch_size - len(images)), (0, 0), (0, 0), (0, 0))
        batch = torch.from_numpy(np.pad(images, padding)).to(choose_device())
        with self._inference():
            features = self._ways[self.way](preprocess(batch, self._setup)).float()
        return features[: len(images)].clone()  # an ordinary tensor, which autograd takes

    def _find_fastest_way(self) -> str:
        """Return the way with the fastest of two batches, after one batch to warm up."""
        size = self._setup.features.image_size
        batch = torch.zeros((self._setup.recipe.batch_size, 3, size, size), device=choose_device())
        batch = batch.to(memory_format=torch.channels_last)
        seconds = {}
        for name, forward in self._ways.items():
            with self._inference(), contextlib.suppress(RuntimeError):  # no compiler here
                forward(batch)
                seconds[name] = min(_measure_seconds(forward, batch) for _ in range(2))
        return min(seconds, key=lambda name: seconds[name])

    @contextlib.contextmanager
    def _inference(self) -> Iterator[None]:
        """Compute without gradients, in the cache's arithmetic."""
        name = self._setup.features.compute_dtype
        with (
            torch.inference_mode(),
            torch.autocast(choose_device().type, getattr(torch, name), enabled=name != "float32"),
        ):
            yield


def run_uncached(setup: Setup, turns: TurnTaker) -> None:
    """Run the backbone over every image in every epoch, a mini-batch a turn; then test."""
    extractor, train, start = Extractor(setup), setup.read_slice("train"), setup.read_start("slice")
    trainer = Trainer(start, setup.recipe, choose_device())
    labels = torch.from_numpy(train.labels).to(choose_device())
    stage = "start-up"
    for order in start.orders:
        for rows in _split_into_batches(order, setup):
            trainer.step(extractor.extract(train.images[rows]), labels[rows])
            turns.end_turn(stage, len(rows), way=extractor.way)
            stage = "train"
    test, correct = setup.read_slice("test"), 0
    for rows in _split_into_batches(np.arange(len(test.labels)), setup):
        of_batch = torch.from_numpy(test.labels[rows]).to(choose_device())
        correct += trainer.count_correct(extractor.extract(test.images[rows]), of_batch)
        turns.end_turn("test", len(rows))
    turns.end_turn("score", correct={"slice": correct})


def run_cached(setup: Setup, turns: TurnTaker) -> None:
    """Extract features once and keep them; then train on all rows of the cache, and on the slice."""
    sliced = _extract(setup, turns) if setup.num_images else None
    train, test = _read_cache(setup, "train"), _read_cache(setup, "test")
    turns.end_turn("read", device=str(choose_device()))
    for _ in range(FIT_REPEATS):
        trainer, losses = fit(*train, setup.read_start("all"), setup.recipe)
        turns.end_turn("fit", setup.recipe.epochs * len(train[1]), losses=losses)
    correct = {"all": trainer.count_correct(*test)}
    if sliced is not None:
        correct["slice"] = _train_on_slice(sliced, setup)
    turns.end_turn("score", correct=correct)


def _train_on_slice(sliced: "dict[str, Tensors]", setup: Setup) -> int:
    """Train on the slice, and return how many of its test images are classified correctly."""
    num_images = setup.num_images
    features, labels = sliced["train"]
    start = setup.read_start("slice")
    trainer, _ = fit(features[:num_images], labels[:num_images], start, setup.recipe)
    features, labels = sliced["test"]
    return trainer.count_correct(features[:num_images], labels[:num_images])


Tensors = tuple[torch.Tensor, torch.Tensor]  # features (n, d) and labels (n,)


def _extract(setup: Setup, turns: TurnTaker) -> dict[str, Tensors]:
    """Extract features, a batch a turn, and write them to a file, in one more turn."""
    extractor = Extractor(setup)
    kept = {}
    stage = "start-up"
    for role in ("train", "test"):
        labelled, batches = setup.read_images(role), []
        for rows in _split_into_batches(np.arange(len(labelled.labels)), setup):
            batches.append(extractor.extract(labelled.images[rows]))
            turns.end_turn(stage, len(rows), way=extractor.way)
            stage = "extract"
        kept[role] = torch.cat(batches), torch.from_numpy(labelled.labels).to(choose_device())
    np.savez(
        setup.folder / "features.npz",
        **{role: features.cpu() for role, (features, _) in kept.items()},
    )
    turns.end_turn("keep")
    return kept


def _read_cache(setup: Setup, role: Role) -> Tensors:
    rows = open_cache(setup.cache).read(role)
    features, labels = np.asarray(rows.features, np.float32), np.asarray(rows.labels)
    return torch.from_numpy(features).to(choose_device()), torch.from_numpy(labels).to(choose_device())


def _split_into_batches(order: np.ndarray, setup: Setup) -> list[np.ndarray]:
    return np.split(order, range(setup.recipe.batch_size, len(order), setup.recipe.batch_size))


def _measure_seconds(forward: Forward, batch: torch.Tensor) -> float:
    started = time.perf_counter()
    forward(batch).sum().item()  # waits for a GPU
    return time.perf_counter() - started
