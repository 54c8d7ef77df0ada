"""From a dataset to the answers of an exported model, on the tiny backbone; and images that a head can learn."""

import io

import numpy as np
from PIL import Image

from tfl.artefacts.export import export
from tfl.artefacts.predict import predict
from tfl.cache import open_cache
from tfl.extraction.precompute import precompute
from tfl.heads import Ridge
from tfl.runs.training import train
from tfl.specs import Artefact

COLOURS = ("red", "green", "blue")


def make_images(count, seed=0):
    """Images of several sizes, uint8 `(h, w, 3)`, and the channel that is bright in each."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    images = []
    for row, label in enumerate(labels):
        image = rng.integers(0, 120, (10 + row % 3, 9, 3), dtype=np.uint8)
        image[:, :, label] += 100
        images.append(image)
    return images, labels.tolist()


def encode(image, suffix="png"):
    """Return an image file's content."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, suffix)
    return file.getvalue()


def predict_images(dataset, features, settings, folder, images):
    """Return the cache, and the classes that the exported model gives these images, after all commands before it."""
    path = precompute(features, dataset, settings)
    run = train(path, Ridge(), runs_dir=folder / "runs")
    export(run, folder / "model", artefact=Artefact(format="keras"))
    files = []
    for number, image in enumerate(images):
        files.append(folder / f"new_{number}.png")
        files[-1].write_bytes(encode(image))
    return open_cache(path), [answer.class_name for answer in predict(folder / "model", files)]
