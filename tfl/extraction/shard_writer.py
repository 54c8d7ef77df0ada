"""Shards written to the disk by other threads, while the next ones are computed."""

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from tfl.cache import CopiedRows, Cost, UniqueIds
from tfl.extraction.assembly import AssembledShard, require_unique
from tfl.extraction.plan import Plan
from tfl.machine.progress import Progress


class ShardWriter:
    """Threads that write shards; a shard's cost is measured since the one before."""

    def __init__(self, plan: Plan, progress: Progress, threads: ThreadPoolExecutor, most: int) -> None:
        self._plan, self._progress, self._threads, self._most = plan, progress, threads, most
        self._writing: deque[Future[None]] = deque()
        self._ids = UniqueIds()
        self._started, self._computed = time.monotonic(), progress.computed

    def write(self, assembled: AssembledShard) -> None:
        """Write a shard in another thread; wait for the oldest if too many are being written."""
        require_unique(self._ids, assembled)
        if len(self._writing) == self._most:
            self._writing.popleft().result()
        shard, rows, skipped, copied = assembled
        cost = self._measure(copied)
        self._writing.append(self._threads.submit(self._plan.unfinished.write, shard, rows, cost, skipped))

    def finish(self) -> None:
        """Wait until all shards are written."""
        for writing in self._writing:
            writing.result()

    def _measure(self, copied: list[CopiedRows]) -> Cost:
        now, computed = time.monotonic(), self._progress.computed
        cost = Cost(now - self._started, computed - self._computed, copied)
        self._started, self._computed = now, computed
        return cost
