"""The same training as a PyTorch engineer would write it: without caching, and with it.

The backbone in evaluation mode under `inference_mode`, in channels_last memory, by `torch.compile` with frozen
parameters where that is faster here; images stay uint8 and are resized on the device. They lie in memory, so that a
batch is a slice of an array, and a loader's workers would have nothing to do.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from tfl.cache import open_cache
from tfl.comparison.reference.head import Trainer, fit
from tfl.comparison.reference.job import FIT_REPEATS, Job
from tfl.comparison.reference.network import device, pixels, resnet50
from tfl.machine.lockstep import Turns
from tfl.specs import Role

Forward = Callable[[torch.Tensor], torch.Tensor]


class Extractor:
    """Images to features, batch by batch, by the faster of two ways; the job's folder remembers which it was."""

    def __init__(self, job: Job) -> None:
        self._job = job
        network = resnet50(job)
        network.fc = nn.Identity()
        network.eval().requires_grad_(False).to(device(), memory_format=torch.channels_last)
        self._ways: dict[str, Forward] = {
            "eager": network,
            "torch.compile": torch.compile(network, options={"freezing": True}),
        }
        note = job.folder / "way"
        if not note.exists():
            note.write_text(self._fastest(), encoding="utf-8")
        self.way = note.read_text(encoding="utf-8")

    def features(self, images: np.ndarray) -> torch.Tensor:
        """Float32 `(n, d)` on the device, of uint8 `(n, h, w, 3)`; a short batch is padded, and cut again."""
        padding = ((0, self._job.recipe.batch_size - len(images)), (0, 0), (0, 0), (0, 0))
        batch = torch.from_numpy(np.pad(images, padding)).to(device())
        with self._inference():
            features = self._ways[self.way](pixels(batch, self._job)).float()
        return features[: len(images)].clone()  # an ordinary tensor, which autograd takes

    def _fastest(self) -> str:
        """The better of two batches each, after a first one."""
        size = self._job.features.image_size
        batch = torch.zeros((self._job.recipe.batch_size, 3, size, size), device=device())
        batch = batch.to(memory_format=torch.channels_last)
        seconds = {}
        for name, forward in self._ways.items():
            with self._inference(), contextlib.suppress(RuntimeError):  # no compiler here
                forward(batch)
                seconds[name] = min(_seconds_of(forward, batch) for _ in range(2))
        return min(seconds, key=lambda name: seconds[name])

    @contextlib.contextmanager
    def _inference(self) -> Iterator[None]:
        """No gradients, and the arithmetic of the cache."""
        name = self._job.features.compute_dtype
        with torch.inference_mode(), torch.autocast(device().type, getattr(torch, name), enabled=name != "float32"):
            yield


def play_uncached(job: Job, turns: Turns) -> None:
    """Every epoch runs the backbone over every image again, a mini-batch a turn; then the test images."""
    extractor, train, start = Extractor(job), job.slice("train"), job.start("slice")
    trainer = Trainer(start, job.recipe, device())
    labels = torch.from_numpy(train.labels).to(device())
    stage = "start-up"
    for order in start.orders:
        for rows in _split(order, job):
            trainer.step(extractor.features(train.images[rows]), labels[rows])
            turns.end(stage, len(rows), way=extractor.way)
            stage = "train"
    test, correct = job.slice("test"), 0
    for rows in _split(np.arange(len(test.labels)), job):
        of_batch = torch.from_numpy(test.labels[rows]).to(device())
        correct += trainer.count_correct(extractor.features(test.images[rows]), of_batch)
        turns.end("test", len(rows))
    turns.end("score", correct={"slice": correct})


def play_cached(job: Job, turns: Turns) -> None:
    """Extract features once and keep them; then train on all of the cache's, and on the slice's."""
    sliced = _extract(job, turns) if job.num_images else None
    train, test = _cached(job, "train"), _cached(job, "test")
    turns.end("read", device=str(device()))
    for _ in range(FIT_REPEATS):
        trainer, losses = fit(*train, job.start("all"), job.recipe)
        turns.end("fit", job.recipe.epochs * len(train[1]), losses=losses)
    correct = {"all": trainer.count_correct(*test)}
    if sliced is not None:
        train, test = (tuple(tensor[: job.num_images] for tensor in sliced[role]) for role in ("train", "test"))
        trainer, _ = fit(*train, job.start("slice"), job.recipe)
        correct["slice"] = trainer.count_correct(*test)
    turns.end("score", correct=correct)


Tensors = tuple[torch.Tensor, torch.Tensor]  # features (n, d) and labels (n,)


def _extract(job: Job, turns: Turns) -> dict[str, Tensors]:
    """A batch of images a turn; keeping the features in a file is one too."""
    extractor = Extractor(job)
    kept = {}
    stage = "start-up"
    for role in ("train", "test"):
        labelled, batches = job.images(role), []
        for rows in _split(np.arange(len(labelled.labels)), job):
            batches.append(extractor.features(labelled.images[rows]))
            turns.end(stage, len(rows), way=extractor.way)
            stage = "extract"
        kept[role] = torch.cat(batches), torch.from_numpy(labelled.labels).to(device())
    np.savez(job.folder / "features.npz", **{role: features.cpu() for role, (features, _) in kept.items()})
    turns.end("keep")
    return kept


def _cached(job: Job, role: Role) -> Tensors:
    rows = open_cache(job.cache).read(role)
    features, labels = np.asarray(rows.features, np.float32), np.asarray(rows.labels)
    return torch.from_numpy(features).to(device()), torch.from_numpy(labels).to(device())


def _split(order: np.ndarray, job: Job) -> list[np.ndarray]:
    return np.split(order, range(job.recipe.batch_size, len(order), job.recipe.batch_size))


def _seconds_of(forward: Forward, batch: torch.Tensor) -> float:
    started = time.perf_counter()
    forward(batch).sum().item()  # waits for a GPU
    return time.perf_counter() - started
