"""Peak memory of `tfl predict` on photographs of 24 megapixels, by exported model."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import tyro
from measure import measure_in_turns, peak_bytes_of, tell, tfl_command
from PIL import Image
from record import RESULTS, new_result, write_result

QUESTION = "Peak memory of `tfl predict` on photos of 24 megapixels"
LIBRARIES = (
    "tensorflow",
    "keras",
    "onnxruntime",
    "openvino",
    "ai-edge-litert",
    "torch",
    "pillow",
    "numpy",
)


def main(
    models: tyro.conf.Positional[tuple[Path, ...]],
    num_photos: int = 40,
    width: int = 6000,
    height: int = 4000,
    repeats: int = 1,
    out: Path = RESULTS / "predict_memory.json",
) -> None:
    """Predict photographs by each model, and measure the largest resident size of the command.

    Args:
      models: Folders that `tfl export` made; a way is called as its folder.
      num_photos: JPEG files of a colour gradient.
      width: Of each, in pixels.
      height: Of each, in pixels.
      repeats: Turns of all models.
      out: The JSON file to write.
    """
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        tell(f"writing {num_photos} photographs")
        write_photographs(Path(folder), num_photos, width, height)
        measures = {model.name: functools.partial(peak_of_predict, model, Path(folder)) for model in models}
        peaks = measure_in_turns(measures, repeats, failed)
    settings = {"images": f"{num_photos} JPEG files of {width} x {height} pixels, gradients"}
    write_result(
        out,
        new_result(QUESTION, {"peak_bytes": peaks}, LIBRARIES, settings=settings, failed=failed),
    )


def write_photographs(folder: Path, count: int, width: int, height: int) -> None:
    """Write JPEG files of a colour gradient, each another."""
    across = np.broadcast_to(np.linspace(0, 255, width), (height, width))
    down = np.broadcast_to(np.linspace(0, 255, height)[:, None], (height, width))
    for number in range(count):
        blue = np.full((height, width), number % 256)
        pixels = np.stack([across, down, blue], axis=-1).astype(np.uint8)  # (h, w, 3)
        Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=90)


def peak_of_predict(model: Path, folder: Path) -> float:
    """Return the peak bytes of the command."""
    return float(peak_bytes_of(tfl_command("predict", model, folder, "--json")))


if __name__ == "__main__":
    tyro.cli(main)
