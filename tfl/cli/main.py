"""The commands: parse, call, print, exit codes. Results on stdout, progress and notes on stderr.

Nothing that imports a framework is imported before a command needs it, so that `tfl --help` answers at once.
"""

import contextlib
import functools
import importlib
import importlib.util
import json
import logging
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from tfl.cli.terminal import (
    IS_DEBUGGING,
    Table,
    held_stderr,
    logs_on_stderr,
    progress_line,
    restart_in_utf8,
    safe_usage,
    safe_warnings,
    show,
    show_json,
    show_path,
    show_row,
    standard_streams,
    tell,
    tell_of_image,
)
from tfl.errors import CacheError, DatasetError, ExtraError, RunError, SpecError, TflError
from tfl.files import paths, user_folders
from tfl.machine import packages
from tfl.reports import formatting
from tfl.specs import MAX_IMAGE_PIXELS, Artefact, DatasetSpec, FeatureSpec, Settings, View, require_max_image_pixels
from tfl.specs.recipes import RECIPES, Mlp, Recipe, RecipeName, Reference, Selection, Shots, recipe_name
from tfl.text import to_printable

if TYPE_CHECKING:
    from tfl.heads import Trial

BACKENDS = ("tensorflow", "jax", "torch")  # of Keras; the first is its own default
RESUMABLE = (["precompute"], ["quickstart"])  # commands that go on where they were
TYPES = ConstructorRegistry()  # how arguments become values, where tyro's way is not tfl's
UNREAD = 141  # exit code, as of what SIGPIPE ends
MAX_SHOWN = 300  # characters of an error that no part of tfl expects
SMALLER = "end other programs, or take a smaller --batch-size, --image-size or slice"
TRACEBACK = "with the traceback that TFL_DEBUG=1 shows"
FULL_JOB = 'tfl export "$(tfl train "$(tfl precompute)" | tail -1)" --out saved_model'


def quickstart(settings: Settings = Settings(), runs_dir: Path = Path("runs")) -> None:  # noqa: B008 -- frozen
    """The whole way on a slice of real CIFAR-10, in minutes on two CPU cores.

    Args:
      runs_dir: Folder of the run folders.
    """
    paths.require_no_file(settings.cache_dir)
    paths.require_no_file(runs_dir)
    _start_keras()
    from tfl.cli.quickstart import quickstart

    with progress_line() as on_progress:
        summary = quickstart(settings, runs_dir, on_progress, Table())
    seconds = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in summary.seconds.items())
    show("", *formatting.format_metrics(summary.metrics), "")
    show(f"seconds     {seconds}")
    show(f"cache       {summary.cache}")
    show(f"confusion   {summary.run / 'confusion_matrix.png'}")
    show(f"SavedModel  {summary.saved_model} {formatting.format_parity(summary.parity)}")
    show(f"all 60,000 images at 224 pixels: {FULL_JOB}")
    show_path(summary.run)


def fetch(names: Positional[tuple[str, ...]] = ("cifar10", "resnet50"), npz: Path | None = None) -> None:
    """Bring datasets and weights onto this machine, verified by digest.

    Args:
      names: TFDS datasets and keras.applications architectures.
      npz: Also write the dataset to this .npz file, for machines without TensorFlow.
    """
    _start_keras()
    from tfl.backbones.backbone import list_architectures
    from tfl.extraction.fetch import fetch

    sets = [name for name in names if name.lower() not in list_architectures()]
    if npz is not None and len(sets) != 1:
        raise SpecError(f"--npz writes one dataset, got {len(sets)}: {' '.join(sets) or 'none'}")
    for name in names:
        show(fetch(name, npz if name in sets else None))


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
    paths.require_no_file(settings.cache_dir)
    _start_keras()
    from tfl.extraction.precompute import precompute

    with progress_line() as on_progress:
        path = precompute(features, dataset, settings, on_progress, views)
    show_path(path)


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
        recipe: RecipeName = recipe_name(kind()),  # type: ignore[assignment] # noqa: B008
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
        paths.require_no_file(folder.runs_dir)
        _start_keras()
        if shots.shots:
            if not is_named and settings != kind():
                raise SpecError("with --shots settings are those of one recipe: name it with --recipe")
            show_path(_study(cache, settings if is_named else None, selection, shots, folder))
        else:
            _train(cache, settings, selection, folder)

    train.__annotations__["settings"] = kind
    return train


def _train(cache: Path, recipe: Recipe, selection: Selection, folder: RunFolder) -> None:
    from tfl.heads import Listeners
    from tfl.reports import figures
    from tfl.runs import run

    if folder.tensorboard:
        figures.require_tensorboard()
    table = Table()
    has_epochs = isinstance(recipe, Reference | Mlp)
    listeners = Listeners(on_epoch=table) if has_epochs else Listeners(on_trial=lambda t: table(_trial_cells(t)))
    made = run.train(cache, recipe, selection, folder.name, folder.runs_dir, listeners)
    if chosen := run.open_run(made).description["chosen"]:
        show("", f"chosen on validation rows: {chosen['recipe']} {formatting.format_setting(chosen['setting'])}")
    if test := run.open_run(made).metrics.get("test"):
        show("", *formatting.format_metrics(test))
    if folder.tensorboard:
        show(f"TensorBoard {run.write_tensorboard(made)}")
    show_path(made)


def _trial_cells(trial: "Trial") -> dict[str, Any]:
    numbers = {name: trial.get(name) for name in ("val_accuracy", "val_loss", "seconds")}
    return {"recipe": trial["recipe"], "setting": formatting.format_setting(trial["setting"]), **numbers}


def _study(cache: Path, recipe: Recipe | None, selection: Selection, shots: Shots, folder: RunFolder) -> Path:
    """`--shots`: of one recipe if one was named, else of every one.

    Raises:
      SpecError: flags of a head, which a study does not leave.
    """
    if folder.name or folder.tensorboard or selection.calibrate:
        raise SpecError("--shots leaves a study, no head: leave --name, --tensorboard and --calibrate out")
    from tfl.runs.few_shot import RECIPES as EVERY
    from tfl.runs.few_shot import study_shots

    table = Table()
    keys = ("recipe", "shots", "mean", "standard_deviation", "seconds")
    recipes = EVERY if recipe is None else (recipe,)
    return study_shots(
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
    from tfl.runs.run import compare_runs, evaluate

    found = evaluate(run) if other is None else compare_runs(run, other)
    if as_json:
        show_json(found)
    elif other is None:
        show(*formatting.format_metrics(found))
    else:
        show(*formatting.format_comparison(found))


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
    paths.require_no_file(runs_dir)
    _start_keras()
    from tfl.runs.run import list_runs, remove_run

    if reproduce is not None:
        _reproduce(reproduce)
        return
    for folder in remove:
        remove_run(folder)
    _print_list(
        list_runs(runs_dir), formatting.format_runs, f"no runs in {runs_dir}; `tfl train CACHE` makes one", as_json
    )


def _print_list(
    found: list[dict[str, Any]],
    lines: Callable[[list[dict[str, Any]]], Iterator[str]],
    nothing: str,
    as_json: bool,
) -> None:
    """What a folder holds, as JSON or as a table; if that is nothing, words that say so."""
    if as_json:
        show_json(found)
    elif found:
        show(*lines(found))
    else:
        show(nothing)


def _reproduce(folder: Path) -> None:
    from tfl.runs.run import reproduce

    again, differing = reproduce(folder)
    if differing:
        raise RunError(f"{again} is not what {folder} was:", *(f"  {line}" for line in differing))
    show(f"every number of {folder} again")
    show_path(again)


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
    from tfl.artefacts.export import export

    with progress_line() as on_progress:
        parity = export(run, out, dataset, weights, artefact, on_progress)
    show(f"{artefact.format} {formatting.format_parity(parity)}")
    show_path(out)


def predict(
    model: Positional[Path],
    images: Positional[tuple[str, ...]],
    max_image_pixels: int = MAX_IMAGE_PIXELS,
    as_json: Annotated[bool, arg(name="json")] = False,
) -> None:
    """Classes and probabilities of images, from an exported model alone; exit code 1 if an image is bad.

    Args:
      model: The folder that `tfl export` made, of any format.
      images: Image files of any size that Pillow reads; folders of them; patterns such as 'photos/**/*.jpg'; or `-` for
        one image, or paths of images (a line each, or ended by zero bytes), from standard input.
      max_image_pixels: Most pixels (height x width) that an image may claim in its header; a larger one is bad.
      as_json: Print one JSON object a line.
    """
    from tfl.artefacts.predict import find_images, open_model, predict_each

    if "" in images:
        raise SpecError("an image's path is empty; all images of this folder are .")
    require_max_image_pixels(max_image_pixels)
    found = find_images(map(paths.expand_user_text, images), sys.stdin.buffer)
    with held_stderr():
        opened = open_model(model)
    num_bad = 0
    with progress_line() as on_progress:
        for prediction in predict_each(opened, found, on_progress, max_image_pixels):
            num_bad += "error" in prediction
            if "error" in prediction and not as_json:
                tell_of_image(f"tfl: {prediction['error']}")
            elif as_json:
                show_json(prediction)
            else:
                show_row(*formatting.format_prediction(prediction))
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
    from tfl.comparison.compare import compare
    from tfl.comparison.table import format_lines

    with progress_line() as on_progress:
        found = compare(cache, images, Reference(epochs=epochs), weights, out, on_progress)
    if as_json:
        show_json(found)
    else:
        show(*format_lines(found))


def caches(cache_dir: Path = Path("cache"), as_json: Annotated[bool, arg(name="json")] = False) -> None:
    """List the caches, whole and unfinished.

    Args:
      cache_dir: Folder of the cache files.
      as_json: Print JSON.
    """
    from tfl.cache import list_overviews

    paths.require_no_file(cache_dir)
    nothing = f"no caches in {cache_dir}; `tfl precompute` makes one"
    _print_list(list_overviews(cache_dir), formatting.format_caches, nothing, as_json)


def inspect(cache: Positional[Path], as_json: Annotated[bool, arg(name="json")] = False) -> None:
    """What is in a cache file, or how far an unfinished one is.

    Args:
      cache: The file that `tfl precompute` made, or is making.
      as_json: Print JSON.
    """
    from tfl.cache import inspect

    found = inspect(cache)
    if as_json:
        show_json(found)
    else:
        show(*formatting.format_cache(found))


def verify(cache: Positional[Path], as_json: Annotated[bool, arg(name="json")] = False) -> None:
    """Read every byte of a cache file and compare it with what was written; exit code 1 if one differs.

    Args:
      cache: The file that `tfl precompute` made.
      as_json: Print JSON.
    """
    from tfl.cache import verify

    problems = verify(cache)
    if as_json:
        show_json({"path": str(cache), "problems": problems})
    elif not problems:
        show(f"{cache}: every byte is what was written ({cache.stat().st_size:,} bytes)")
    if problems:
        lines = [f"  {problem}" for problem in problems]
        raise CacheError(f"{cache} is damaged; remove it and precompute again:", *lines)


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

    Args:
      arguments: what follows `tfl`; of this process if None, which may then begin anew.

    Returns:
      0 done, 1 the data or the machine said no, 2 wrong values, 130 interrupted, 141 nobody reads the output any more
      (`| head`), 143 told to end (SIGTERM).

    Raises:
      SystemExit: with code 2, arguments that cannot be parsed; with code 0, after `--help`.
    """
    if arguments is None:
        restart_in_utf8()
    with standard_streams() as output, logs_on_stderr():
        signal.signal(signal.SIGTERM, _end)
        user_folders.provide_home()
        try:
            code = _carry_out(list(sys.argv[1:] if arguments is None else arguments))
        except SystemExit as end:
            if end.code or not output.has_lost:
                raise
            code = 0
        if code == 0 and output.has_lost:
            tell(f"tfl: what belongs on standard output is lost: the operating system refused: {output.error}")
            code = 1
    return code


def _carry_out(arguments: list[str]) -> int:
    """Parse and run a command, and return its exit code; every end has its line on stderr."""
    try:
        with safe_warnings():
            _parse(arguments)()
        sys.stdout.flush()
    except TflError as error:
        tell(*f"tfl: {error}".split("\n"))
        return error.exit_code
    except BrokenPipeError:
        return UNREAD
    except KeyboardInterrupt as interruption:
        return _tell_of_end(arguments, isinstance(interruption, _Ended))
    except Exception as error:  # noqa: BLE001 -- the last place where one can be told in a line
        if IS_DEBUGGING:
            tell(*"".join(traceback.format_exception(error)).splitlines())
        tell(f"tfl: {_reason(error)}")
        return 1
    return 0


def _parse(arguments: list[str]) -> Callable[[], None]:
    """Return the command that some arguments ask for, ready to be called.

    Raises:
      SpecError: an argument that no file and no option can have.
      SystemExit: arguments that cannot be parsed, or `--help`.
    """
    for argument in arguments:
        if "\0" in argument:
            raise SpecError(f"an argument has a NUL character, which no name can have: {argument}")
    commands = {name: _bound(command) for name, command in _commands(arguments).items()}
    with safe_usage():
        called: Callable[[], None] = tyro.extras.subcommand_cli_from_dict(
            commands,
            prog="tfl",
            description="Transfer learning with cached features: pay for a pretrained backbone once.",
            args=arguments,
            config=(OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
            registry=TYPES,
        )
    return called


def _bound(command: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """A function of a command's arguments that returns the call, not yet made."""

    @functools.wraps(command)
    def bind(*values: Any, **named: Any) -> Callable[[], None]:
        return functools.partial(command, *values, **named)

    return bind


@TYPES.primitive_rule
def _path_rule(asked: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    """Every path of every command is read here."""
    if asked.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda arguments: paths.parse_path(arguments[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


def _tell_of_end(arguments: list[str], is_told: bool) -> int:
    kept = "finished shards are kept; go on with" if arguments[:1] in RESUMABLE else "nothing is kept; begin again with"
    how = "told to end" if is_told else "interrupted"
    tell("", f"tfl: {how}; {kept}: {shlex.join(['tfl', *arguments])}")
    return 128 + (signal.SIGTERM if is_told else signal.SIGINT)


def _reason(error: Exception) -> str:
    """Say in one line why a command ended with an error that is none of tfl's own."""
    if isinstance(error, OSError):
        return f"the operating system refused: {error}"
    if isinstance(error, MemoryError):
        return f"too little memory{f' ({error})' if str(error) else ''}: {SMALLER}"
    if isinstance(error, UnicodeEncodeError):
        return f"a name cannot be written in {error.encoding}: {error.object!r}; rename it, or set LC_ALL=C.UTF-8"
    place = traceback.extract_tb(error.__traceback__)[-1]
    what = f"{type(error).__name__}: {' '.join(str(error).split())[:MAX_SHOWN]}"
    return f"internal error, {what} ({place.filename}, line {place.lineno}); please report it, {TRACEBACK}"


class _Ended(KeyboardInterrupt):
    """SIGTERM came: what stops for Ctrl-C stops for it."""


def _end(number: int, frame: object) -> None:
    raise _Ended


def _start_keras() -> None:
    """Import Keras and let its backend start.

    TensorFlow too, where it is: Keras imports it later on any backend, and TensorFlow would speak then.
    """
    _require_backend()
    with held_stderr():
        with packages.hide_packages(
            "matplotlib", "sklearn"
        ):  # Keras would import them for what tfl does not use, in 2 s
            keras = _imported_keras()
        keras.ops.zeros(1)
        with contextlib.suppress(ImportError):
            importlib.import_module("tensorflow")
        for chatty in ("absl", "tensorflow"):
            logging.getLogger(chatty).setLevel(logging.ERROR)


def _require_backend() -> None:
    """Refuse a Keras backend that tfl does not know or that is not installed, before Keras is imported.

    Raises:
      TflError: what was asked for, where, and what there is.
    """
    where, backend = _wanted_backend()
    if backend not in BACKENDS:
        raise TflError(f"{where} names the backend {backend!r}; expected one of {', '.join(BACKENDS)}")
    if importlib.util.find_spec(backend) is None:
        installed = [name for name in BACKENDS if importlib.util.find_spec(name) is not None]
        raise ExtraError(
            f"{where} names the backend {backend!r}, and the package {backend} is not installed; install it, or set "
            f"KERAS_BACKEND to one that is: {', '.join(installed) or 'none'}"
        )


def _wanted_backend() -> tuple[str, str]:
    """Where Keras' backend is named, and which it is: the environment, else `keras.json`, else TensorFlow."""
    if backend := os.environ.get("KERAS_BACKEND", ""):
        return "KERAS_BACKEND", backend
    path = Path(os.environ.get("KERAS_HOME", "~/.keras"), "keras.json")
    try:
        path = path.expanduser()
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, RuntimeError):  # the last: there is no home
        settings = {}
    backend = settings.get("backend", BACKENDS[0]) if isinstance(settings, dict) else BACKENDS[0]
    return str(path), str(backend)


def _imported_keras() -> Any:
    """Import Keras.

    Raises:
      ExtraError: it cannot be; the reason, on one line.
    """
    try:
        return importlib.import_module("keras")
    except Exception as error:
        reason = to_printable(" ".join(str(error).split())[:500])
        where, backend = _wanted_backend()
        raise ExtraError(
            f"Keras cannot be imported with the backend {backend} ({where}): {reason}; mend the package, or the "
            "setting that it names"
        ) from error
