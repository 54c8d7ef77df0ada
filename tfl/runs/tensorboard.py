"""TensorBoard logs of a run: its epochs and its final metrics."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tfl.errors import RunError
from tfl.heads.trials import Epoch
from tfl.runs.folder import open_run
from tfl.runs.metrics import MetricsByRole

CURVES = ("loss", "accuracy", "val_loss", "val_accuracy")


def require_tensorboard() -> None:
    """Refuse, before the work, if TensorBoard's files cannot be written.

    Raises:
      RunError: TensorFlow is not installed.
    """
    try:
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise RunError(f"TensorBoard's files need TensorFlow ({error}); pip install tensorflow") from error


def write_tensorboard(folder: Path) -> Path:
    """Write a run's epochs and metrics into its folder as TensorBoard logs, and return the folder of the logs.

    Raises:
      RunError: TensorFlow is not installed; or see `open_run`.
    """
    run = open_run(folder)
    logs = run.folder / "tensorboard"
    write_events(run.history, run.metrics, logs)
    return logs


def write_events(history: Sequence[Epoch], metrics: MetricsByRole, folder: Path) -> None:
    """Write epochs and final metrics into `folder`, made if needed, as one file that TensorBoard reads.

    Tags are `loss`, `accuracy`, `val_loss` and `val_accuracy` at the step of their epoch, and
    `ROLE/accuracy` and `ROLE/loss` at the last epoch. The records are written as they are:
    TensorFlow's summary operations would claim a GPU's memory.

    Raises:
      RunError: TensorFlow is not installed.
    """
    require_tensorboard()
    import tensorflow as tf

    now = time.time()  # seconds since 1970
    folder.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / f"events.out.tfevents.{int(now)}.tfl")) as writer:
        writer.write(tf.compat.v1.Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
        for step, tag, value in _list_points(history, metrics):
            summary = tf.compat.v1.Summary(value=[tf.compat.v1.Summary.Value(tag=tag, simple_value=value)])
            writer.write(tf.compat.v1.Event(wall_time=now, step=step, summary=summary).SerializeToString())


def _list_points(history: Sequence[Epoch], metrics: MetricsByRole) -> Iterator[tuple[int, str, float]]:
    """Yield step, tag and value of each point."""
    for entry in history:
        for name in CURVES:
            value = getattr(entry, name)
            if value is not None:
                yield entry.epoch, name, value
    last = history[-1].epoch if history else 0
    for role, of_role in metrics.items():
        for name, value in (("accuracy", of_role.accuracy), ("loss", of_role.loss)):
            if value is not None:  # undefined without rows
                yield last, f"{role}/{name}", value
