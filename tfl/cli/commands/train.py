"""`tfl train`: the flags of one recipe, and those that all recipes share."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from tyro.conf import Positional

from tfl.cli.output import RowPrinter, print_lines, print_path
from tfl.cli.startup import start_keras
from tfl.errors import SpecError
from tfl.files import paths
from tfl.heads import RECIPES, Recipe, Reference
from tfl.reports.metrics import format_metrics
from tfl.runs.history import format_setting
from tfl.specs.training import Selection, Shots

if TYPE_CHECKING:
    from tfl.heads.trials import Trial
    from tfl.runs.few_shot_record import FewShotResult

Settings = TypeVar("Settings", bound=Recipe)


class RecipeName(str):
    """The name of a recipe; the command line offers those that are registered when it is parsed."""

    __slots__ = ()


@dataclass(frozen=True)
class RunFolder:
    """Where a training leaves what it makes."""

    name: str = ""
    """Name of the run folder; made from cache and recipe if empty."""
    runs_dir: Path = Path("runs")
    """Folder of the run folders."""
    tensorboard: bool = False
    """Also write TensorBoard logs into the run folder."""


@dataclass(frozen=True)
class Train(Generic[Settings]):
    """Train a head on cached features; the run folder is the last line."""

    cache: Positional[Path]
    """The file that `tfl precompute` made."""
    settings: Settings
    recipe: RecipeName = RecipeName("reference")
    """`reference` is the article's: one Dense layer, SGD with momentum. Each recipe has flags of its own, which
    `tfl train --recipe NAME --help` lists."""
    selection: Selection = Selection()
    shots: Shots = Shots()
    folder: RunFolder = RunFolder()
    is_resumable: ClassVar[bool] = False
    is_recipe_named: ClassVar[bool] = True

    def run(self) -> None:
        """Train one head, or study how many images a recipe needs."""
        paths.require_no_file(self.folder.runs_dir)
        start_keras()
        if self.shots.shots:
            print_path(self._study())
        else:
            self._train()

    def _train(self) -> None:
        from tfl.runs import tensorboard
        from tfl.runs.folder import open_run
        from tfl.runs.training import train

        if self.folder.tensorboard:
            tensorboard.require_tensorboard()
        made = train(
            self.cache, self.settings, self.selection, self.folder.name, self.folder.runs_dir, self._listeners()
        )
        opened = open_run(made)
        chosen, test = opened.record.chosen, opened.metrics.get("test")
        if chosen:
            print_lines("", f"chosen on validation rows: {chosen.recipe} {format_setting(chosen.setting)}")
        if test:
            print_lines("", *format_metrics(test))
        if self.folder.tensorboard:
            print_lines(f"TensorBoard {tensorboard.write_tensorboard(made)}")
        print_path(made)

    def _listeners(self) -> Any:
        from tfl.heads.trials import Listeners

        print_row = RowPrinter()
        if self.settings.has_epochs:
            return Listeners(on_epoch=print_row.print_record)
        return Listeners(on_trial=lambda trial: print_row(_list_cells(trial)))

    def _study(self) -> Path:
        """Study the recipe that was named, or every recipe if none was."""
        if not self.is_recipe_named and self.settings != type(self.settings)():
            raise SpecError("with --shots settings are those of one recipe: name it with --recipe")
        if self.folder.name or self.folder.tensorboard or self.selection.calibrate:
            raise SpecError("--shots makes a study, no head: leave --name, --tensorboard and --calibrate out")
        from tfl.runs.few_shot import study_shots

        print_row = RowPrinter()
        return study_shots(
            self.cache,
            self.shots,
            (self.settings,) if self.is_recipe_named else (),
            self.selection,
            self.folder.runs_dir,
            lambda result: print_row(_list_shots_cells(result)),
        )


@dataclass(frozen=True)
class TrainDefault(Train[Reference]):
    """Train a head on cached features; the run folder is the last line."""

    is_recipe_named: ClassVar[bool] = False


def build_command(recipe: str | None) -> Any:
    """Return the command `train` with the flags of a recipe; of `reference` for None and unknown names."""
    if recipe not in RECIPES:
        return TrainDefault
    return Train.__class_getitem__(RECIPES[recipe])  # type: ignore[attr-defined] # as `Train[...]`, known at run time


def _list_cells(trial: "Trial") -> dict[str, Any]:
    numbers = {name: getattr(trial, name) for name in ("val_accuracy", "val_loss", "seconds")}
    return {"recipe": trial.recipe, "setting": format_setting(trial.setting), **numbers}


def _list_shots_cells(result: "FewShotResult") -> dict[str, Any]:
    columns = ("recipe", "shots", "mean", "standard_deviation", "seconds")
    return {name: getattr(result, name) for name in columns}
