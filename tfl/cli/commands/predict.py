"""`tfl predict`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tyro.conf import Positional

from tfl.cli.commands.command import AsJson
from tfl.cli.output import print_json, print_notes, print_row
from tfl.cli.progress import show_progress
from tfl.cli.streams import hold_stderr
from tfl.errors import DatasetError, SpecError
from tfl.files import paths
from tfl.reports.artefacts import format_prediction
from tfl.specs import MAX_IMAGE_PIXELS, require_max_image_pixels

if TYPE_CHECKING:
    from tfl.artefacts.predict import BadImage, Prediction


@dataclass(frozen=True)
class Predict:
    """Print classes and probabilities of images, from an exported model alone; exit code 1 if an image is bad."""

    model: Positional[Path]
    """The folder that `tfl export` made, of any format."""
    images: Positional[tuple[str, ...]]
    """Image files of any size that Pillow reads; folders of them; patterns such as 'photos/**/*.jpg'; or `-` for one
    image, or paths of images (a line each, or ended by zero bytes), from standard input."""
    max_image_pixels: int = MAX_IMAGE_PIXELS
    """Most pixels (height x width) that an image may claim in its header; a larger one is bad."""
    as_json: AsJson = False
    """Print one JSON object a line."""
    is_resumable: ClassVar[bool] = False

    def run(self) -> None:
        """Print a line for each image."""
        from tfl.artefacts.predict import BadImage, find_images, open_model, predict_each

        if "" in self.images:
            raise SpecError("an image's path is empty; all images of this folder are .")
        require_max_image_pixels(self.max_image_pixels)
        images = find_images(map(paths.expand_user_text, self.images), sys.stdin.buffer)
        with hold_stderr():
            opened = open_model(self.model)
        num_bad = 0
        with show_progress() as on_progress:
            for prediction in predict_each(opened, images, on_progress, self.max_image_pixels):
                num_bad += isinstance(prediction, BadImage)
                self._print(prediction)
        if num_bad:
            raise DatasetError(f"{num_bad} of {len(images)} images are bad")

    def _print(self, answer: "Prediction | BadImage") -> None:
        from tfl.artefacts.predict import BadImage

        if self.as_json:
            print_json(answer)
        elif isinstance(answer, BadImage):
            print_notes(f"tfl: {answer.error}")
        else:
            print_row(*format_prediction(answer.image, answer.probabilities))
