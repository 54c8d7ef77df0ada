"""From arrays in memory to a head: test accuracy and seconds on Fashion-MNIST, 70,000 grey images of 28 x 28.

The four idx files are in the Debian package `dataset-fashion-mnist`:

python scripts/benchmarks/fashion_mnist.py --folder /usr/share/datasets/fashion-mnist
"""

import gzip
import tempfile
from pathlib import Path

import numpy as np
import tyro
from measure import seconds_of, tell
from record import RESULTS, new_result, write_result

QUESTION = "Test accuracy and seconds from arrays in memory to a head, on Fashion-MNIST"
LIBRARIES = ("keras", "tensorflow", "jax", "torch", "openvino", "scipy", "numpy")
CLASS_NAMES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
HEADER_BYTES = {"images-idx3": 16, "labels-idx1": 8}
SIDE = 28  # pixels


def main(
    folder: Path = Path("/usr/share/datasets/fashion-mnist"),
    backbone: str = "resnet50",
    image_size: int = 64,
    rows: int = 60_000,
    out: Path = RESULTS / "fashion_mnist.json",
) -> None:
    """Compute the features of all images once, and train one head on them.

    Args:
      folder: Folder of the idx files.
      backbone: The frozen network, with its ImageNet weights.
      image_size: Height and width that the images are resized to.
      rows: Training images to take, the first ones.
      out: The JSON file to write.
    """
    import tfl

    images, labels = read_idx(folder, "train")
    test = read_idx(folder, "t10k")
    features = tfl.FeatureSpec(backbone=backbone, image_size=image_size)
    with tempfile.TemporaryDirectory() as scratch:
        made: dict[str, Path] = {}

        def precompute() -> None:
            made["cache"] = tfl.precompute(
                features,
                settings=tfl.Settings(cache_dir=Path(scratch)),
                images=images[:rows],
                labels=labels[:rows],
                test=test,
                class_names=CLASS_NAMES,
                name="fashion_mnist",
            )

        def train() -> None:
            made["run"] = tfl.train(made["cache"], tfl.Logistic(), runs_dir=Path(scratch, "runs"))

        seconds = {"precompute": [seconds_of(precompute)], "train": [seconds_of(train)]}
        metrics = tfl.evaluate(made["run"])
    assert metrics.accuracy is not None, "there are test images"
    assert metrics.accuracy_interval_95 is not None
    tell(f"accuracy {metrics.accuracy:.2%}, {seconds}")
    write_result(
        out,
        new_result(
            QUESTION,
            {"accuracy": {"logistic": [metrics.accuracy]}, "seconds": seconds},
            LIBRARIES,
            settings={
                "backbone": backbone,
                "image_size": image_size,
                "train_images": rows,
                "test_images": len(test[0]),
            },
            findings={"interval": {"logistic": list(metrics.accuracy_interval_95)}},
        ),
    )


def read_idx(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return grey images uint8 `(n, 28, 28)` and labels `(n,)`."""
    images, labels = (
        np.frombuffer(gzip.decompress((folder / f"{part}-{kind}-ubyte.gz").read_bytes()), np.uint8, offset=start)
        for kind, start in HEADER_BYTES.items()
    )
    return images.reshape(-1, SIDE, SIDE), labels


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.FlagCreatePairsOff,))
