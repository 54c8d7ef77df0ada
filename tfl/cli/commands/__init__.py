"""The commands of `tfl`, one file a command; a new one is named here once."""

from tfl.cli.commands.audit import Audit
from tfl.cli.commands.caches import Caches, Inspect, Verify
from tfl.cli.commands.command import Command
from tfl.cli.commands.compare import Compare
from tfl.cli.commands.engines import Engines
from tfl.cli.commands.evaluate import Evaluate
from tfl.cli.commands.export import Export
from tfl.cli.commands.features import Features, Import
from tfl.cli.commands.fetch import Fetch
from tfl.cli.commands.precompute import Precompute
from tfl.cli.commands.predict import Predict
from tfl.cli.commands.quickstart import Quickstart
from tfl.cli.commands.runs import Runs
from tfl.cli.commands.train import TrainDefault

__all__ = ["COMMANDS", "Command"]

COMMANDS: dict[str, type[Command]] = {
    "quickstart": Quickstart,
    "fetch": Fetch,
    "precompute": Precompute,
    "train": TrainDefault,
    "evaluate": Evaluate,
    "audit": Audit,
    "runs": Runs,
    "export": Export,
    "predict": Predict,
    "compare": Compare,
    "caches": Caches,
    "inspect": Inspect,
    "verify": Verify,
    "features": Features,
    "import": Import,
    "engines": Engines,
}
