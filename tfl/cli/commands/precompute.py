"""`tfl precompute`."""

from dataclasses import dataclass
from typing import ClassVar

from tfl.cli.output import print_path
from tfl.cli.progress import show_progress
from tfl.cli.startup import start_keras
from tfl.files import paths
from tfl.specs import DatasetSpec, FeatureSpec, Settings, View


@dataclass(frozen=True)
class Precompute:
    """Run the frozen backbone once over every image; the cache file's path is the last line."""

    features: FeatureSpec = FeatureSpec()
    dataset: DatasetSpec = DatasetSpec()
    settings: Settings = Settings()
    views: tuple[View, ...] = ("original",)
    """`original` and, after it, further ways to present every image: mirrored, four corners and the centre. Each costs
    as much as the original; one that is added later costs itself alone."""
    is_resumable: ClassVar[bool] = True

    def run(self) -> None:
        """Make the cache file and print its path."""
        paths.require_no_file(self.settings.cache_dir)
        start_keras()
        from tfl.extraction.precompute import precompute

        with show_progress() as on_progress:
            path = precompute(self.features, self.dataset, self.settings, on_progress, self.views)
        print_path(path)
