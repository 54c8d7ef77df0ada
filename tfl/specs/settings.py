"""Settings: the way features are computed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tfl.errors import SpecError
from tfl.files.paths import expand_user
from tfl.specs.limits import MAX_IMAGE_PIXELS, require_max_image_pixels


@dataclass(frozen=True)
class Settings:
    """Settings of the computation. No spec contains them: they change at most the last bits of a feature."""

    cache_dir: Path = Path("cache")
    """Folder of the cache files."""
    engine: Literal["auto", "keras", "openvino", "torch.compile"] = "auto"
    """What runs the network: `keras` (the Keras backend), `openvino` or `torch.compile`.
    `auto` takes OpenVINO on a CPU if it is installed, else the Keras backend.
    `torch.compile` needs KERAS_BACKEND=torch."""
    batch_size: int = 0
    """Images per forward pass.
    With 0, an unfinished cache keeps its batch size.
    A new one gets up to 32 on a CPU and up to 256 per GPU, so that batches divide a shard evenly."""
    shard_rows: int = 1024
    """Rows per shard, the unit that is written on the way to the file.
    A killed run loses at most two shards on a CPU and seven on a GPU."""
    quantize_check: bool = False
    """Tell what `int8` costs: classify some training or val rows from its features and from those of float32.
    Test rows are never read. Takes about a minute."""
    on_bad_image: Literal["error", "skip"] = "error"
    """`error` stops at an image that cannot be read.
    `skip` leaves it out and lists it in the cache's provenance."""
    allow_missing_classes: bool = False
    """Accept val or test rows of a class without training rows.
    Also accept train or test rows that are all of one class."""

    max_image_pixels: int = MAX_IMAGE_PIXELS
    """Most pixels (height x width) that an image file may claim in its header.
    A larger image is not decoded and counts as a bad image."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "cache_dir", expand_user(self.cache_dir))
        require_max_image_pixels(self.max_image_pixels)
        if self.batch_size < 0 or self.shard_rows < 1:
            raise SpecError(
                f"batch_size is at least 0 and shard_rows at least 1, got {self.batch_size} and {self.shard_rows}"
            )
