"""The command `tfl precompute` watched from outside: when each stage begins, and how busy the GPU is meanwhile.

The folder of the unfinished cache tells the stages: its manifest, its shards, and the finished file.
"""

import os
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

SECONDS_BETWEEN_LOOKS = 0.005
MILLISECONDS_BETWEEN_SAMPLES = 100


@dataclass
class Timeline:
    """Moments of one command, in seconds since its process began; None if not seen."""

    seconds: float = 0.0
    """End of the process."""
    manifest: float | None = None
    """The backbone is built, and the folder of the unfinished cache is there."""
    shards: list[tuple[float, int]] = field(default_factory=list)
    """Rises of the number of finished shards: the moment, and the number."""
    file: float | None = None
    """The finished file is there."""
    was_killed: bool = False
    gpu_percent: float | None = None
    """Mean utilisation between the first and the last shard, as nvidia-smi samples it."""

    def num_shards(self) -> int:
        """Return how many shards were finished when it was last looked at."""
        return self.shards[-1][1] if self.shards else 0

    def stages(self) -> dict[str, float]:
        """Return the seconds of each stage that was seen whole."""
        if self.manifest is None or not self.shards or self.file is None:
            return {}
        first, last = self.shards[0][0], self.shards[-1][0]
        return {
            "start-up": self.manifest,
            "compilation and first shard": first - self.manifest,
            "further shards": last - first,
            "merge": self.file - last,
            "exit": self.seconds - self.file,
        }

    def images_per_second(self, num_images: int) -> float | None:
        """Return the rate from the first shard to the last, of a cache that was begun anew."""
        if len(self.shards) < 2:
            return None
        (first, num_first), (last, num_last) = self.shards[0], self.shards[-1]
        return num_images * (num_last - num_first) / num_last / (last - first)


def watch_precompute(
    command: list[str],
    cache_dir: Path,
    variables: Mapping[str, str],
    kill_at_shards: int | None = None,
) -> Timeline:
    """Run a command that leaves a cache in `cache_dir`, and note when its stages begin.

    Args:
      kill_at_shards: kill it (SIGKILL) when so many shards are finished.

    Raises:
      RuntimeError: it failed; the end of what it wrote to stderr.
    """
    timeline = Timeline()
    with sampled_gpu() as samples, tempfile.TemporaryFile() as written:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            env={**os.environ, **variables},
            stdout=subprocess.DEVNULL,
            stderr=written,
            start_new_session=True,
        )
        while process.poll() is None:
            _look(timeline, cache_dir, time.perf_counter() - started)
            if kill_at_shards is not None and timeline.num_shards() >= kill_at_shards:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                timeline.was_killed = True
                break
            time.sleep(SECONDS_BETWEEN_LOOKS)
        timeline.seconds = time.perf_counter() - started
        if process.returncode and not timeline.was_killed:
            written.seek(0)
            text = written.read().decode(errors="replace").strip()
            raise RuntimeError(f"tfl precompute ended with {process.returncode}: {text[-600:]}")
    timeline.gpu_percent = _mean_between(samples, timeline, started)
    return timeline


def _look(timeline: Timeline, cache_dir: Path, now: float) -> None:
    count = len(list(cache_dir.glob("*.partial/*.shard")))
    if timeline.manifest is None and any(cache_dir.glob("*.partial/manifest.json")):
        timeline.manifest = now
    if count > timeline.num_shards():
        timeline.shards.append((now, count))
    if timeline.file is None and any(cache_dir.glob("*.h5")):
        timeline.file = now


def _mean_between(samples: list[tuple[float, float]], timeline: Timeline, started: float) -> float | None:
    """Return the mean of the samples from the first shard to the last."""
    if len(timeline.shards) < 2:
        return None
    first, last = (started + moment for moment, _ in (timeline.shards[0], timeline.shards[-1]))
    inside = [percent for moment, percent in samples if first <= moment <= last]
    return statistics.mean(inside) if inside else None


@contextmanager
def sampled_gpu() -> Iterator[list[tuple[float, float]]]:
    """Sample the first GPU's utilisation inside, ten times a second: when (perf_counter), and percent.

    A machine without nvidia-smi has no samples.
    """
    samples: list[tuple[float, float]] = []
    query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    command = ["nvidia-smi", "-i", "0", *query, "-lms", str(MILLISECONDS_BETWEEN_SAMPLES)]
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:
        yield samples
        return
    assert process.stdout is not None
    reader = threading.Thread(target=_collect, args=(process.stdout, samples), daemon=True)
    reader.start()
    try:
        yield samples
    finally:
        process.terminate()
        process.wait()
        reader.join(timeout=5)


def _collect(lines: TextIO, samples: list[tuple[float, float]]) -> None:
    for line in lines:
        now = time.perf_counter()
        samples.extend((now, float(word)) for word in line.split() if word.isdecimal())
