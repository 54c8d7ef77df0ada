"""The commands: parse, call, print, exit codes. Results on stdout, progress and notes on stderr.

Nothing that imports a framework is imported before a command needs it, so that `tfl --help` answers at once.
"""

import contextlib
import importlib
import json
import logging
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg

from tfl import extras, words
from tfl.errors import CacheError, DatasetError, RunError, SpecError, TflError
from tfl.recipes import RECIPES, Mlp, Recipe, RecipeName, Reference, Selection, Shots, name_of
from tfl.spec import Artefact, DatasetSpec, FeatureSpec, Settings, View

if TYPE_CHECKING:
    from tfl import predict as predicting
    from tfl.head import Trial
    from tfl.precompute import Progress

SECONDS_BETWEEN_LINES = 30.0  # of progress, where stderr is no terminal
RESUMABLE = (["precompute"], ["quickstart"])  # commands that go on where they were
UNREAD = 141  # exit code, as of what SIGPIPE ends
FULL_JOB = 'tfl export "$(tfl train "$(tfl precompute)" | tail -1)" --out saved_model'


def quickstart(settings: Settings = Settings(), runs_dir: Path = Path("runs")) -> None:  # noqa: B008 -- frozen
    """The whole way on a slice of real CIFAR-10, in minutes on two CPU cores.

    Args:
      runs_dir: Folder of the run folders.
    """
    _start_keras()
    from tfl.quickstart import quickstart

    with _progress_line() as on_progress:
        summary = quickstart(settings, runs_dir, on_progress, _Table())
    print()
    print("\n".join(words.of_metrics(summary.metrics)))
    print()
    print("seconds    ", ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in summary.seconds.items()))
    print("cache      ", summary.cache)
    print("confusion  ", summary.run / "confusion_matrix.png")
    print("SavedModel ", summary.saved_model, words.of_parity(summary.parity))
    print("all 60,000 images at 224 pixels:", FULL_JOB)
    print(summary.run)


def fetch(names: Positional[tuple[str, ...]] = ("cifar10", "resnet50"), npz: Path | None = None) -> None:
    """Bring datasets and weights onto this machine, verified by digest.

    Args:
      names: TFDS datasets and keras.applications architectures.
      npz: Also write the dataset to this .npz file, for machines without TensorFlow.
    """
    _start_keras()
    from tfl.backbone import architectures
    from tfl.fetch import fetch

    sets = [name for name in names if name.lower() not in architectures()]
    if npz is not None and len(sets) != 1:
        raise SpecError(f"--npz writes one dataset, got {len(sets)}: {' '.join(sets) or 'none'}")
    for name in names:
        print(fetch(name, npz if name in sets else None))


def precompute(
    features: FeatureSpec = FeatureSpec(),  # noqa: B008 -- frozen
    dataset: DatasetSpec = DatasetSpec(),  # noqa: B008
    settings: Settings = Settings(),  # noqa: B008
    views: tuple[View, ...] = ("original",),
) -> None:
    """Run the frozen backbone once over every image; the cache file's path is the last line.

    Args:
      views: `original` and, after it, further ways to present every image: mirrored, four corners and the centre. Each
        costs as much as the original; one added later costs itself alone.
    """
    _start_keras()
    from tfl.precompute import precompute

    with _progress_line() as on_progress:
        path = precompute(features, dataset, settings, on_progress, views)
    print(path)


@dataclass(frozen=True)
class RunFolder:
    """Where a training leaves what it made."""

    name: str = ""
    """Name of the run folder; made from cache and recipe if empty."""
    runs_dir: Path = Path("runs")
    """Folder of the run folders."""
    tensorboard: bool = False
    """Leave TensorBoard logs in the run folder too."""


def _train_with(kind: type[Recipe], is_named: bool) -> Callable[..., None]:
    """`tfl train` with the flags of one recipe."""

    def train(
        cache: Positional[Path],
        recipe: RecipeName = name_of(kind()),  # type: ignore[assignment] # noqa: B008
        settings: Any = kind(),  # noqa: B008 -- frozen
        selection: Selection = Selection(),  # noqa: B008
        shots: Shots = Shots(),  # noqa: B008
        folder: RunFolder = RunFolder(),
    ) -> None:
        """Train a head on cached features; the run folder is the last line.

        Args:
          cache: The file that `tfl precompute` made.
          recipe: `reference` is the seed article's: one Dense layer, SGD with momentum. Each recipe has settings of its
            own: `tfl train --recipe NAME --help`.
        """
        _start_keras()
        if shots.shots:
            if not is_named and settings != kind():
                raise SpecError("with --shots settings are those of one recipe: name it with --recipe")
            print(_study(cache, settings if is_named else None, selection, shots, folder))
        else:
            _train(cache, settings, selection, folder)

    train.__annotations__["settings"] = kind
    return train


def _train(cache: Path, recipe: Recipe, selection: Selection, folder: RunFolder) -> None:
    from tfl import report, run
    from tfl.head import Listeners

    if folder.tensorboard:
        report.require_tensorboard()
    table = _Table()
    has_epochs = isinstance(recipe, Reference | Mlp)
    listeners = Listeners(on_epoch=table) if has_epochs else Listeners(on_trial=lambda t: table(_trial_cells(t)))
    made = run.train(cache, recipe, selection, folder.name, folder.runs_dir, listeners)
    if chosen := run.open_run(made).description["chosen"]:
        print("\nchosen on validation rows:", chosen["recipe"], words.of_setting(chosen["setting"]))
    if test := run.open_run(made).metrics.get("test"):
        print()
        print("\n".join(words.of_metrics(test)))
    if folder.tensorboard:
        print("TensorBoard", run.write_tensorboard(made))
    print(made)


def _trial_cells(trial: "Trial") -> dict[str, Any]:
    numbers = {name: trial.get(name) for name in ("val_accuracy", "val_loss", "seconds")}
    return {"recipe": trial["recipe"], "setting": words.of_setting(trial["setting"]), **numbers}


def _study(cache: Path, recipe: Recipe | None, selection: Selection, shots: Shots, folder: RunFolder) -> Path:
    """`--shots`: of one recipe if one was named, else of every one.

    Raises:
      SpecError: flags of a head, which a study does not leave.
    """
    if folder.name or folder.tensorboard or selection.calibrate:
        raise SpecError("--shots leaves a study, no head: leave --name, --tensorboard and --calibrate out")
    from tfl.shots import RECIPES as EVERY
    from tfl.shots import study

    table = _Table()
    keys = ("recipe", "shots", "mean", "standard_deviation", "seconds")
    recipes = EVERY if recipe is None else (recipe,)
    return study(
        cache,
        shots,
        recipes,
        selection,
        folder.runs_dir,
        lambda result: table({k: v for k, v in result.items() if k in keys}),
    )


def evaluate(
    run: Positional[Path],
    other: Positional[Path | None] = None,
    as_json: Annotated[bool, arg(name="json")] = False,
) -> None:
    """Metrics of a run on the test rows of its cache; of two runs, whether they differ by more than chance.

    Args:
      run: The folder that `tfl train` left.
      other: A second run, to hold the first against (McNemar's test).
      as_json: Print JSON.
    """
    _start_keras()
    from tfl.run import compare, evaluate

    found = evaluate(run) if other is None else compare(run, other)
    if as_json:
        print(json.dumps(found))
    elif other is None:
        print("\n".join(words.of_metrics(found)))
    else:
        print("\n".join(words.of_comparison(found)))


def runs(
    runs_dir: Path = Path("runs"),
    reproduce: Path | None = None,
    remove: tuple[Path, ...] = (),
    as_json: Annotated[bool, arg(name="json")] = False,
) -> None:
    """List the runs; train one again from its own description; remove some.

    Args:
      runs_dir: Folder of the run folders.
      reproduce: Train this run again, and say whether its numbers are the same.
      remove: Run folders that are no longer wanted.
      as_json: Print JSON.
    """
    if reproduce is not None and remove:
        raise SpecError("--reproduce and --remove are two commands: give them one after the other")
    _start_keras()
    from tfl.run import list_runs, remove_run

    if reproduce is not None:
        _reproduce(reproduce)
        return
    for folder in remove:
        remove_run(folder)
    _print_list(list_runs(runs_dir), words.of_runs, f"no runs in {runs_dir}; `tfl train CACHE` makes one", as_json)


def _print_list(
    found: list[dict[str, Any]],
    lines: Callable[[list[dict[str, Any]]], Iterator[str]],
    nothing: str,
    as_json: bool,
) -> None:
    """What a folder holds, as JSON or as a table; if that is nothing, words that say so."""
    if as_json:
        print(json.dumps(found))
    else:
        print("\n".join(lines(found)) if found else nothing)


def _reproduce(folder: Path) -> None:
    from tfl.run import reproduce

    again, differing = reproduce(folder)
    if differing:
        raise RunError("\n  ".join([f"{again} is not what {folder} was:", *differing]))
    print(f"every number of {folder} again")
    print(again)


def export(
    run: Positional[Path],
    out: Path,
    dataset: str = "",
    weights: str = "",
    artefact: Artefact = Artefact(),  # noqa: B008 -- frozen
) -> None:
    """Write a model that takes raw images, proven in a fresh process; its folder is the last line.

    Args:
      run: The folder that `tfl train` left.
      out: The folder to make.
      dataset: Where the cache's dataset is now, if it has moved.
      weights: Where the backbone's weights are now, if they have moved.
    """
    _start_keras()
    from tfl.export import export

    with _progress_line() as on_progress:
        parity = export(run, out, dataset, weights, artefact, on_progress)
    print(artefact.format, words.of_parity(parity))
    print(out)


def predict(
    model: Positional[Path], images: Positional[tuple[str, ...]], as_json: Annotated[bool, arg(name="json")] = False
) -> None:
    """Classes and probabilities of images, from an exported model alone; exit code 1 if an image is bad.

    Args:
      model: The folder that `tfl export` made, of any format.
      images: Image files of any size that Pillow reads; folders of them; patterns such as 'photos/**/*.jpg'; or `-` for
        one image, or paths of images a line each, from standard input.
      as_json: Print one JSON object a line.
    """
    from tfl.predict import find_images, open_model, predictions

    found = find_images(images, sys.stdin.buffer)
    with _held_stderr():
        opened = open_model(model)
    num_bad = 0
    with _progress_line() as on_progress:
        for prediction in predictions(opened, found, on_progress):
            num_bad += "error" in prediction
            if "error" in prediction and not as_json:
                _clear_progress(sys.stderr)
                print(f"tfl: {prediction['error']}", file=sys.stderr)
            else:
                _clear_progress(sys.stdout)
                print(json.dumps(prediction) if as_json else words.of_prediction(prediction), flush=True)
    if num_bad:
        raise DatasetError(f"{num_bad} of {len(found)} images are bad")


def compare(
    cache: Positional[Path],
    images: int = 64,
    epochs: int = 10,
    weights: Literal["keras", "torchvision"] = "keras",
    out: Path | None = None,
    as_json: Annotated[bool, arg(name="json")] = False,
) -> None:
    """Ours against the PyTorch reference on the same images, rows and weights: one table.

    Args:
      cache: The file that `tfl precompute` made.
      images: How many training and as many test images the forms that do not cache are run on.
      epochs: Of every form.
      weights: Whose the reference uses: Keras', carried over, or torchvision's own, where they are at hand.
      out: PNG file for the seconds over the epochs.
      as_json: Print JSON.
    """
    _start_keras()
    from tfl.compare import compare, lines

    with _progress_line() as on_progress:
        found = compare(cache, images, Reference(epochs=epochs), weights, out, on_progress)
    print(json.dumps(found) if as_json else "\n".join(lines(found)))


def caches(cache_dir: Path = Path("cache"), as_json: Annotated[bool, arg(name="json")] = False) -> None:
    """List the caches, whole and unfinished.

    Args:
      cache_dir: Folder of the cache files.
      as_json: Print JSON.
    """
    from tfl.cache import overview

    nothing = f"no caches in {cache_dir}; `tfl precompute` makes one"
    _print_list(overview(cache_dir), words.of_caches, nothing, as_json)


def inspect(cache: Positional[Path], as_json: Annotated[bool, arg(name="json")] = False) -> None:
    """What is in a cache file, or how far an unfinished one is.

    Args:
      cache: The file that `tfl precompute` made, or is making.
      as_json: Print JSON.
    """
    from tfl.cache import inspect

    found = inspect(cache)
    print(json.dumps(found) if as_json else "\n".join(words.of_cache(found)))


def verify(cache: Positional[Path], as_json: Annotated[bool, arg(name="json")] = False) -> None:
    """Read every byte of a cache file and compare it with what was written; exit code 1 if one differs.

    Args:
      cache: The file that `tfl precompute` made.
      as_json: Print JSON.
    """
    from tfl.cache import verify

    problems = verify(cache)
    if as_json:
        print(json.dumps({"path": str(cache), "problems": problems}))
    elif not problems:
        print(f"{cache}: every byte is what was written ({cache.stat().st_size:,} bytes)")
    if problems:
        raise CacheError("\n  ".join([f"{cache} is damaged; remove it and precompute again:", *problems]))


COMMANDS: dict[str, Callable[..., None]] = {
    "quickstart": quickstart,
    "fetch": fetch,
    "precompute": precompute,
    "train": _train_with(Reference, is_named=False),
    "evaluate": evaluate,
    "runs": runs,
    "export": export,
    "predict": predict,
    "compare": compare,
    "caches": caches,
    "inspect": inspect,
    "verify": verify,
}


def _commands(arguments: Sequence[str]) -> dict[str, Callable[..., None]]:
    """The commands, `train` with the flags of the recipe that is named."""
    named = [arguments[i + 1] for i, word in enumerate(arguments[:-1]) if word == "--recipe"]
    named += [word.removeprefix("--recipe=") for word in arguments if word.startswith("--recipe=")]
    if named and named[-1] in RECIPES:
        return {**COMMANDS, "train": _train_with(RECIPES[named[-1]], is_named=True)}
    return COMMANDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
      0 done, 1 the data or the machine said no, 2 wrong values, 130 interrupted, 141 nobody reads the output any more
      (`| head`), 143 told to end (SIGTERM).

    Raises:
      SystemExit: with code 2, arguments that cannot be parsed; with code 0, after `--help`.
    """
    _log_to_stderr()
    arguments = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, _end)
    try:
        tyro.extras.subcommand_cli_from_dict(
            _commands(arguments),
            prog="tfl",
            description="Transfer learning with cached features: pay for a pretrained backbone once.",
            args=arguments,
            config=(OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        )
        sys.stdout.flush()
    except TflError as error:
        print(f"tfl: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be written
        return UNREAD
    except OSError as error:
        print(f"tfl: the operating system refused: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interruption:
        is_end = isinstance(interruption, _Ended)
        kept = (
            "finished shards are kept; go on with"
            if list(arguments)[:1] in RESUMABLE
            else "nothing is kept; begin again with"
        )
        how = "told to end" if is_end else "interrupted"
        print(f"\ntfl: {how}; {kept}: {shlex.join(['tfl', *arguments])}", file=sys.stderr)
        return 128 + (signal.SIGTERM if is_end else signal.SIGINT)
    return 0


class _Ended(KeyboardInterrupt):
    """SIGTERM came: what stops for Ctrl-C stops for it."""


def _end(number: int, frame: object) -> None:
    raise _Ended


class _Table:
    """Prints a line for each mapping that it is called with, under a heading."""

    def __init__(self) -> None:
        self._widths: list[int] = []

    def __call__(self, row: Mapping[str, Any]) -> None:
        if not self._widths:
            self._widths = [30 if name == "setting" else max(12, len(name)) for name in row]
            self._print(list(row))
        self._print([f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()])

    def _print(self, cells: list[str]) -> None:
        _clear_progress(sys.stdout)
        print("  ".join(f"{cell:>{width}}" for cell, width in zip(cells, self._widths, strict=True)), flush=True)


@contextlib.contextmanager
def _progress_line() -> Iterator[Callable[["Progress | predicting.Progress"], None]]:
    """Rate and time left on stderr: one line rewritten on a terminal, a line now and then elsewhere."""
    is_terminal = sys.stderr.isatty()
    last_shown = time.monotonic() - (SECONDS_BETWEEN_LINES if is_terminal else 0)

    def show(progress: "Progress | predicting.Progress") -> None:
        nonlocal last_shown
        if time.monotonic() - last_shown < (0.2 if is_terminal else SECONDS_BETWEEN_LINES):
            return
        last_shown = time.monotonic()
        line = f"{progress.finished:,} of {progress.total:,} images"
        if rate := progress.images_per_second:  # of copied rows there is none
            left = (progress.total - progress.finished) / rate
            line += f", {rate:.1f} a second, {words.duration(left)} left"
        before, after = ("\r", "\033[K") if is_terminal else ("", "\n")
        print(f"{before}{line}", end=after, file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        _clear_progress(sys.stderr)


def _clear_progress(stream: TextIO) -> None:
    """Take the line of progress away where what comes next, to `stream`, would be glued to it."""
    if sys.stderr.isatty() and stream.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _log_to_stderr() -> None:
    logger = logging.getLogger("tfl")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


def _start_keras() -> None:
    """Import Keras and let its backend start.

    TensorFlow too, where it is: Keras imports it later on any backend, and TensorFlow would speak then.
    """
    with _held_stderr():
        with extras.absent("matplotlib", "sklearn"):  # Keras would import them for what tfl does not use, in 2 s
            import keras
        keras.ops.zeros(1)
        with contextlib.suppress(ImportError):
            importlib.import_module("tensorflow")
        for chatty in ("absl", "tensorflow"):
            logging.getLogger(chatty).setLevel(logging.ERROR)


@contextlib.contextmanager
def _held_stderr() -> Iterator[None]:
    """Hold back what libraries write to file descriptor 2 as they start, unless they fail.

    `TF_CPP_MIN_LOG_LEVEL` alone leaves lines that TensorFlow's C++ writes before it reads its settings.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
