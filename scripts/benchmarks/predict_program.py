"""What is done without tfl, as one program: read the images, Keras `predict` on the whole model, save the features.

python scripts/benchmarks/predict_program.py DATASET IMAGE_SIZE OUT SPLIT [SPLIT ...]

It prints the seconds of `predict` alone.
"""

import sys
import time
from pathlib import Path

import numpy as np

BATCH_SIZE = 32  # as `tfl precompute` takes on a processor, and Keras unasked


def main(dataset: str, image_size: int, out: Path, splits: list[str]) -> None:
    """Compute the features of these splits, and leave them with their labels in an .npz file."""
    import tensorflow_datasets as tfds
    from ways import Network, build_backbone

    model = build_backbone("float32", Network(image_size=image_size)).model
    arrays: dict[str, np.ndarray] = {}
    seconds = 0.0
    for place, (images, labels) in enumerate(tfds.load(dataset, split=splits, batch_size=-1, as_supervised=True)):
        pixels = np.asarray(images)  # (n, h, w, 3) uint8
        started = time.perf_counter()
        arrays[f"features_{place}"] = model.predict(pixels, batch_size=BATCH_SIZE, verbose=0)  # (n, d)
        seconds += time.perf_counter() - started
        arrays[f"labels_{place}"] = np.asarray(labels)
    np.savez(out, allow_pickle=False, **arrays)
    print(seconds)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
