"""The commands: parse, call, print, exit codes. Results on stdout, progress and notes on stderr.

Nothing that imports a framework is imported before a command needs it, so that `tfl --help` answers at once.
"""

import contextlib
import json
import logging
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg

from tfl.errors import CacheError, SpecError, TflError
from tfl.recipes import Reference
from tfl.spec import DatasetSpec, FeatureSpec, Settings, View

if TYPE_CHECKING:
    from tfl.head import Epoch
    from tfl.precompute import Progress

SECONDS_BETWEEN_LINES = 30.0  # of progress, where stderr is no terminal
RESUMABLE = (["precompute"], ["quickstart"])  # commands that go on where they were
MAX_CLASSES_SHOWN = 20
FULL_JOB = 'tfl export "$(tfl train "$(tfl precompute)" | tail -1)" --out saved_model'


def quickstart(settings: Settings = Settings(), runs_dir: Path = Path("runs")) -> None:  # noqa: B008 -- frozen
    """The whole way on a slice of real CIFAR-10, in minutes on two CPU cores.

    Args:
      runs_dir: Folder of the run folders.
    """
    _start_keras()
    from tfl.quickstart import quickstart

    with _progress_line() as on_progress:
        summary = quickstart(settings, runs_dir, on_progress, _EpochTable())
    print()
    _print_metrics(summary.metrics)
    print()
    print("seconds    ", ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in summary.seconds.items()))
    print("cache      ", summary.cache)
    print("confusion  ", summary.run / "confusion_matrix.png")
    print("SavedModel ", summary.saved_model, _parity_words(summary.parity))
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


def train(
    cache: Positional[Path],
    recipe: Literal["reference"] = "reference",
    settings: Reference = Reference(),  # noqa: B008 -- frozen
    name: str = "",
    runs_dir: Path = Path("runs"),
) -> None:
    """Train a head on cached features; the run folder is the last line.

    Args:
      cache: The file that `tfl precompute` made.
      recipe: `reference` is the seed article's: one Dense layer, SGD with momentum.
      name: Name of the run folder; made from cache and recipe if empty.
      runs_dir: Folder of the run folders.
    """
    _start_keras()
    from tfl import run

    folder = run.train(cache, settings, name, runs_dir, _EpochTable())
    if test := run.open_run(folder).metrics.get("test"):
        print()
        _print_metrics(test)
    print(folder)


def evaluate(run: Positional[Path], as_json: Annotated[bool, arg(name="json")] = False) -> None:
    """Metrics of a run on the test rows of its cache.

    Args:
      run: The folder that `tfl train` left.
      as_json: Print JSON.
    """
    _start_keras()
    from tfl.run import evaluate

    metrics = evaluate(run)
    if as_json:
        print(json.dumps(metrics))
    else:
        _print_metrics(metrics)


def export(run: Positional[Path], out: Path, dataset: str = "", weights: str = "") -> None:
    """Write a SavedModel, raw images to probabilities, proven in a fresh process; its folder is the last line.

    Args:
      run: The folder that `tfl train` left.
      out: The folder to make.
      dataset: Where the cache's dataset is now, if it has moved.
      weights: Where the backbone's weights are now, if they have moved.
    """
    _start_keras()
    from tfl.export import export

    parity = export(run, out, dataset, weights)
    print("SavedModel", _parity_words(parity))
    print(out)


def predict(
    model: Positional[Path], images: Positional[tuple[Path, ...]], as_json: Annotated[bool, arg(name="json")] = False
) -> None:
    """Classes and probabilities of image files, from an exported model alone.

    Args:
      model: The folder that `tfl export` made.
      images: Image files of any size that Pillow reads.
      as_json: Print one JSON object a line.
    """
    _start_keras()
    from tfl.export import predict

    for prediction in predict(model, images):
        if as_json:
            print(json.dumps(prediction))
        else:
            best = sorted(prediction["probabilities"].items(), key=lambda item: -item[1])[:3]
            print(prediction["image"], " ".join(f"{name} {share:.1%}" for name, share in best), sep="\t")


def inspect(cache: Positional[Path], as_json: Annotated[bool, arg(name="json")] = False) -> None:
    """What is in a cache file, or how far an unfinished one is.

    Args:
      cache: The file that `tfl precompute` made, or is making.
      as_json: Print JSON.
    """
    from tfl.cache import inspect

    found = inspect(cache)
    print(json.dumps(found) if as_json else "\n".join(_overview(found)))


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
    "train": train,
    "evaluate": evaluate,
    "export": export,
    "predict": predict,
    "inspect": inspect,
    "verify": verify,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
      0 done, 1 the data or the machine said no, 2 wrong values, 130 interrupted, 143 told to end (SIGTERM).

    Raises:
      SystemExit: with code 2, arguments that cannot be parsed; with code 0, after `--help`.
    """
    _log_to_stderr()
    arguments = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, _end)
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="tfl",
            description="Transfer learning with cached features: pay for a pretrained backbone once.",
            args=arguments,
            config=(OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        )
    except TflError as error:
        print(f"tfl: {error}", file=sys.stderr)
        return error.exit_code
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


def _print_metrics(metrics: dict[str, Any]) -> None:
    low, high = metrics["accuracy_interval_95"]
    print(f"test accuracy {metrics['accuracy']:.2%} of {metrics['num_rows']} (95 % interval {low:.2%} to {high:.2%})")
    width = max(len(name) for name in metrics["accuracy_per_class"])
    for name, share in metrics["accuracy_per_class"].items():
        print(f"  {name:<{width}}  " + ("no rows" if share is None else f"{share:7.2%}"))


def _overview(found: dict[str, Any]) -> Iterator[str]:
    """A cache's description in lines for people."""
    spec = found["spec"]
    yield f"{found['path']}: {found['bytes']:,} bytes, format {found['format']}"
    yield f"fingerprint  {found['fingerprint']}"
    for part in ("features", "dataset"):
        words = (f"{key} {_words(value)}" for key, value in spec[part].items() if value)
        yield f"{part:<11}  {', '.join(words)}"
    yield f"{'views':<11}  {_words(spec['views'])}"
    yield from _overview_of_file(found) if "checked" in found else _overview_of_partial(found)


def _overview_of_file(found: dict[str, Any]) -> Iterator[str]:
    made = found["provenance"]
    yield f"{'made':<11}  {', '.join(f'{key} {_words(value)}' for key, value in made.items() if key != 'skipped')}"
    yield from _left_out(made.get("skipped", []))
    yield f"{'rows':<11}  " + ", ".join(
        f"{role} {count:,} x {found['num_features']:,} {found['spec']['features']['feature_dtype']}"
        for role, count in found["rows"].items()
    )
    width = max(map(len, found["class_names"]))
    for name in found["class_names"][:MAX_CLASSES_SHOWN]:
        yield f"  {name:<{width}}  " + "  ".join(
            f"{role} {counts[name]:>7,}" for role, counts in found["class_counts"].items()
        )
    if (more := len(found["class_names"]) - MAX_CLASSES_SHOWN) > 0:
        yield f"  ... and {more} classes more (--json lists all)"
    yield f"{'checked':<11}  {found['checked']}"


def _overview_of_partial(found: dict[str, Any]) -> Iterator[str]:
    yield f"{'made with':<11}  {', '.join(f'{key} {_words(value)}' for key, value in found['made_with'].items())}"
    yield from _left_out(found["skipped"])
    for role, rows in found["rows"].items():
        share = rows["finished"] / rows["total"]
        yield f"{'rows':<11}  {role} {rows['finished']:,} of {rows['total']:,} finished ({share:.0%})"
    left = "not known yet" if found["seconds_left"] is None else _duration(found["seconds_left"])
    yield f"{'time':<11}  {_duration(found['seconds'])} so far, {left} left at the same pace"
    yield f"{'now':<11}  " + (
        f"being made by {found['held_by']}" if found["held_by"] else "not being made; the same command goes on"
    )


def _left_out(skipped: list[dict[str, str]]) -> Iterator[str]:
    if skipped:
        yield f"{'left out':<11}  {len(skipped)} bad images:"
        yield from (f"  {image['reason']}" for image in skipped[:MAX_CLASSES_SHOWN])


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + " ".join(f"{key} {_words(inner)}" for key, inner in value.items()) + ")"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _parity_words(parity: Any) -> str:
    return (
        f"(checked in a fresh process on {parity.num_images} images: logits within {parity.error:.1e} of the largest, "
        f"{parity.tolerance:.0e} allowed; {parity.same_class:.0%} of the classes the same)"
    )


class _EpochTable:
    """Prints a line for each epoch, under a heading."""

    def __init__(self) -> None:
        self._has_heading = False

    def __call__(self, epoch: "Epoch") -> None:
        if not self._has_heading:
            print("  ".join(f"{name:>12}" for name in epoch))
            self._has_heading = True
        cells = [str(v) if isinstance(v, int) else f"{v:.4f}" for v in epoch.values()]
        print("  ".join(f"{cell:>12}" for cell in cells), flush=True)


@contextlib.contextmanager
def _progress_line() -> Iterator[Callable[["Progress"], None]]:
    """Rate and time left on stderr: one line rewritten on a terminal, a line now and then elsewhere."""
    is_terminal = sys.stderr.isatty()
    last_shown = time.monotonic() - (SECONDS_BETWEEN_LINES if is_terminal else 0)

    def show(progress: "Progress") -> None:
        nonlocal last_shown
        if time.monotonic() - last_shown < (0.2 if is_terminal else SECONDS_BETWEEN_LINES):
            return
        last_shown = time.monotonic()
        rate = progress.images_per_second
        left = (progress.total - progress.finished) / rate if rate else float("inf")
        words = f"{progress.finished:,} of {progress.total:,} images, {rate:.1f} a second, {_duration(left)} left"
        before, after = ("\r", "\033[K") if is_terminal else ("", "\n")
        print(f"{before}{words}", end=after, file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        if is_terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    if seconds == float("inf"):
        return "some time"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _log_to_stderr() -> None:
    logger = logging.getLogger("tfl")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


def _start_keras() -> None:
    """Import Keras and let its backend start, holding back what that writes to file descriptor 2.

    `TF_CPP_MIN_LOG_LEVEL` alone leaves lines that TensorFlow's C++ writes before it reads its settings.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            import keras

            keras.ops.zeros(1)
            for chatty in ("absl", "tensorflow"):
                logging.getLogger(chatty).setLevel(logging.ERROR)
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
